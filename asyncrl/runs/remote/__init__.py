"""Runs that are elsewhere: copies in a storage, and agents on the Hugging Face Hub."""
