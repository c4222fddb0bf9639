"""What commands share: flags with one-line errors, files that appear whole or not at all."""
