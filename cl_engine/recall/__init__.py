"""Nets kept as codes and decoded when needed: the parts that the strategy `skill_recall` is made of."""
