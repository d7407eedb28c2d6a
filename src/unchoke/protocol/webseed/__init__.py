"""Web seeds (BEP 19): where they have files, and what they answer."""
