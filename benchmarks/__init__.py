"How fast the store is, as ratios: to what the machine can do at all, to other stores, and to the code that it replaces"
