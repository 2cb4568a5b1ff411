"""How the machines are run: on this computer (``local``)."""
