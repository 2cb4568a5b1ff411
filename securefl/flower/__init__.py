"""securefl as a Flower app: the ServerApp, the ClientApp, and the SuperNode that runs no other."""
