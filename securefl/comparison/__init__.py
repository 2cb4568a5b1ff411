"""How useful a private study is beside its alternatives: a trusted centre, noise at each hospital, no federation."""
