"""Fleets that grow and shrink in virtual time: one interface of policies, two simulations."""
