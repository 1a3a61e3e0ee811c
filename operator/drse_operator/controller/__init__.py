"""The live operator: kopf hands in what changed, one loop plans, the executor carries out."""
