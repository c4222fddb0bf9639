"""Pictures: formats that people have, sets, folders, and the cache that training reads."""
