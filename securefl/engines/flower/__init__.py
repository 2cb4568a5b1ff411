"""The Flower engine: the coordinator is a ServerApp, a member answers from a ClientApp."""
