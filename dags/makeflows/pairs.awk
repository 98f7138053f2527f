# Invariant masses of toy pairs: a falling background, and a resonance at 3.1.
BEGIN {
  srand(seed)
  for (event = 0; event < events; event++)
    print (rand() < 0.3) ? 3.1 + 0.05 * (rand() + rand() - 1) : -log(1 - rand()) + 1
}
