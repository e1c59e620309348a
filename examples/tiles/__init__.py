"""Find coins, galaxies, cell nuclei and letters in pictures cut into tiles."""
