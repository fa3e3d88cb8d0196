"""The paper, regenerated: one recipe for each table, figure and theorem."""
