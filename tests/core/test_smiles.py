"""SMILES in and out, valences, rings of double bonds that may be swapped, and strings that are no molecule."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from bottega.core.errors import DataError
from bottega.core.graph import Graph
from bottega.core.molecule import hydrogens, molecule_key, valences, write_smiles
from bottega.core.smiles import SmilesError, read_smiles

MOLECULES = [
    "C", "CC#N", "OCC(=O)C1CC1", "c1ccccc1C", "Cc1cc[nH]c1", "NC1=CC(F)=CC(=O)O1", "C1CC2CC1C2", "[NH3+]CC([O-])=O",
    "c1ccc2[nH]ccc2c1", "N#CC1=CNC=C1", "c1ccccc1-c1ccccc1", "C[N+](=O)[O-]", "CS(=O)(=O)C", "ClC(Br)I",
    "O=c1cc[nH]cc1", "C12C3C4C1C5C2C3C45", "[O-][n+]1ccccc1", "CC.O",
    # rings that hide one another, and an atom in one that has more than its smallest valence
    "c1ccc2ccccc2c1", "c1ccc2cc3ccccc3cc2c1", "c1cc2ccc3cccc4ccc(c1)c2c34", "C1=2C3=[N+]1P23[NH2+]F",
    "C=S1(N=[NH+]N=1)[O-]"]


@pytest.mark.parametrize("text", MOLECULES)
def test_a_molecule_survives_writing_and_has_one_name(text: str) -> None:
    graph, chance = read_smiles(text).graph, random.Random(0)
    written = write_smiles(graph)
    assert molecule_key(read_smiles(written).graph) == molecule_key(graph)
    for _ in range(30):
        order = list(range(len(graph)))
        chance.shuffle(order)
        assert write_smiles(graph.permuted(order)) == written


@pytest.mark.parametrize(("one", "other"), [
    ("Cc1ccccc1C", "CC1=CC=CC=C1C"), ("CC1=CC=CC=C1C", "CC1=C(C)C=CC=C1"), ("OCC", "C(O)C"), ("C(=O)O", "OC=O"),
    ("[H]C([H])([H])O", "CO"), ("F/C=C/F", "FC=CF"), ("CN(=O)=O", "C[N+](=O)[O-]"),
    ("c1ccc2ccccc2c1", "C1=CC=C2C=CC=CC2=C1")])
def test_two_ways_to_write_one_molecule(one: str, other: str) -> None:
    assert molecule_key(read_smiles(one).graph) == molecule_key(read_smiles(other).graph)


def test_different_molecules_differ() -> None:
    texts = ["CCO", "COC", "CC=O", "C1CO1", "OC=C", "Cc1ccccc1C", "Cc1cccc(C)c1", "Cc1ccc(C)cc1"]
    keys = [molecule_key(read_smiles(text).graph) for text in texts]
    assert all(one != other for one, other in pairwise(sorted(keys)))


def test_marks_are_dropped_and_counted() -> None:
    assert read_smiles("F/C=C/[C@@H](O)[13CH3]").dropped == 4
    assert read_smiles("CCO").dropped == 0


def test_hydrogens_follow_from_valences() -> None:
    assert [hydrogens(kind, used) for kind, used in (("C", 0), ("N+", 1), ("O-", 1), ("S", 3), ("C", 5))] == \
        [4, 3, 0, 1, None]
    assert valences("N") == (3,)
    assert valences("S") == (2, 4, 6)
    assert valences("Xx") == valences("node") == ()


@pytest.mark.parametrize(("text", "position", "said"), [
    ("", 0, "no atom"), ("CC1CC", 2, "ring 1 is opened"), ("C(C", 1, "never closed"), ("CC)C", 2, "not opened"),
    ("CC=", 2, "without an atom"), ("=C", 0, "joins nothing"), ("CCX", 2, "no meaning"),
    ("C[Zz]", 1, "Zz is not known"), ("C[C", 1, "bracket"), ("C(C)(C)(C)(C)C", 0, "order 5"),
    ("C11", 2, "joined to itself"), ("C[CH2]", 1, "open valence"),
    ("c1ccnc1", 0, "no double bonds fit"), ("1CC", 0, "before any atom"), ("Cc", 1, "outside a ring"),
    ("C-1CC=1", 6, "another bond"), ("C" * 600, 512, "more than 512")])
def test_what_is_no_molecule(text: str, position: int, said: str) -> None:
    with pytest.raises(SmilesError, match=said) as error:
        read_smiles(text)
    assert error.value.position == position


def test_a_graph_that_is_no_molecule() -> None:
    with pytest.raises(DataError, match="'x' is no atom"):
        write_smiles(Graph.of(["x"], []))
    with pytest.raises(DataError, match="'e' is no bond"):
        write_smiles(Graph.of(["C", "C"], [(0, 1, "e")]))


def test_rdkit_agrees() -> None:
    chemistry = pytest.importorskip("rdkit.Chem")
    for text in MOLECULES:
        ours = chemistry.MolFromSmiles(write_smiles(read_smiles(text).graph))
        assert chemistry.MolToSmiles(ours) == chemistry.MolToSmiles(chemistry.MolFromSmiles(text)), text
