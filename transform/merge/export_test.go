package merge

// Without runs f with one guard switched off: stale, renderings, equal,
// intents or flips.
func Without(guard string, f func()) {
	was := off
	defer func() { off = was }()
	switch guard {
	case "stale":
		off.stale = true
	case "renderings":
		off.renderings = true
	case "equal":
		off.equal = true
	case "intents":
		off.intents = true
	case "flips":
		off.flips = true
	default:
		panic("no guard " + guard)
	}
	f()
}

// Unguarded reports whether a guard is off.
func Unguarded() bool { return off.stale || off.renderings || off.equal || off.intents || off.flips }
