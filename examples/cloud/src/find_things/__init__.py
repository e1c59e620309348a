"""Find the things in a picture: coins, galaxies, cell nuclei, letters. Plain functions of arrays.

Everything is counted in whole numbers, so each machine that takes a tile finds the same in it.
"""
