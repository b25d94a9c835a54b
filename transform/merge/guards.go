package merge

// off switches a guard off, so that a test can show what it prevents. Nothing
// but export_test.go sets it.
var off struct {
	stale      bool // rule 1: what is older than the base is dropped
	renderings bool // rule 2: how a system shows what we wrote
	equal      bool // rule 3: what equals the base is no change
	intents    bool // what the sink is writing is no user's change
	flips      bool // what flips to and fro is held
}
