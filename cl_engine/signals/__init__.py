"""Radio signals: modulated symbols, what a channel does to them, and what a receiver can say of them without labels."""
