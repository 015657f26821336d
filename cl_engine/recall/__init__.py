"""How whole nets are kept as few numbers and given back: the parts that the strategy `skill_recall` is made of."""
