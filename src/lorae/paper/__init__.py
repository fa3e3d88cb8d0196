"""The paper, reproduced: one recipe for each table, figure and theorem."""
