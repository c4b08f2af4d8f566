"""The notebook side: magics, completion, short errors. Nothing is imported before it is needed: workers load
:mod:`.remote` from here."""
