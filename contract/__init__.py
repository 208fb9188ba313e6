"""The gate of the contract with subscribers: what was published stays readable, and what is new breaks nobody.

For developers alone (`make contract`); nothing of the product imports it.
"""
