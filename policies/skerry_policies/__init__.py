"""Policies: who may see and change what."""
