"""Many runs: benchmarks over seeds with their statistics, comparisons of runs, and published results."""
