"""Bytes <-> messages, and the rules by which two programs stay in step. No sockets here."""
