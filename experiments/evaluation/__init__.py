"""Trained models over streams, clips and images: answers, then figures."""
