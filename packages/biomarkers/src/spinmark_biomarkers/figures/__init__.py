"""Figures as matplotlib `Figure` objects, never pyplot: safe in any process, no global state."""
