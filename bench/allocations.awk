# Compares what benchmarks print with the bounds: two files, bounds first.
NR == FNR { if ($1 !~ /^#/ && NF) bound[$1] = $2; next }
/^Benchmark/ {
	name = $1
	sub(/-[0-9]+$/, "", name)
	for (i = 2; i <= NF; i++) if ($i == "allocs/op") got = $(i - 1)
	seen[name] = 1
	if (!(name in bound)) { print name ": " got " allocations, and no bound"; bad = 1 }
	else if (got + 0 > bound[name] + 0) { print name ": " got " allocations, at most " bound[name]; bad = 1 }
}
END {
	for (name in bound) if (!(name in seen)) { print name ": not run"; bad = 1 }
	exit bad
}
