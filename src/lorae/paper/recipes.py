"""The paper, reproduced: one recipe for each table, figure and theorem, and for rivals' tables."""

from lorae.paper.distances import Improvements, Table3, Table4, Table5, Table8
from lorae.paper.figure2 import Figure2
from lorae.paper.pictures import Figure3, Table1, Table2
from lorae.paper.proposition1 import Proposition1
from lorae.paper.recipe import Recipe
from lorae.paper.rival_curves import RivalCurves
from lorae.paper.rival_dynamics import RivalDynamics
from lorae.paper.rival_entropy import RivalEntropy
from lorae.paper.table6 import Table6
from lorae.paper.table7 import Table7
from lorae.paper.theorem1 import Theorem1
from lorae.paper.theorem2 import Theorem2

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Table1(),
        Table2(),
        Figure2(),
        Figure3(),
        Table3(),
        Table4(),
        Table5(),
        Table6(),
        Table7(),
        Table8(),
        Theorem1(),
        Theorem2(),
        Proposition1(),
        Improvements(),
        RivalCurves(),
        RivalDynamics(),
        RivalEntropy(),
    )
}
"""The recipes by the names that the command takes, in the order of the paper."""
