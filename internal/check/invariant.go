package check

// Invariant names a promise. What each says is in docs/reliability.md too.
type Invariant string

// The invariants.
const (
	Readable        Invariant = "readable"
	NoticeAnswered  Invariant = "notice-answered"
	SightMerged     Invariant = "sight-merged"
	EventCaused     Invariant = "event-caused"
	HistoryLinear   Invariant = "history-linear"
	MergedOnce      Invariant = "merged-once"
	TagsDerived     Invariant = "tags-derived"
	RecordOwned     Invariant = "record-owned"
	LinkShown       Invariant = "link-shown"
	ClaimHeld       Invariant = "claim-held"
	EffectsLinear   Invariant = "effects-linear"
	IntentFirst     Invariant = "intent-first"
	WriteCaused     Invariant = "write-caused"
	InOrder         Invariant = "in-order"
	CreatedOnce     Invariant = "created-once"
	NotAgain        Invariant = "not-again"
	WriteTold       Invariant = "write-told"
	OutcomeRecorded Invariant = "outcome-recorded"
	Written         Invariant = "written"
	StaysQuiet      Invariant = "stays-quiet"
	CallIntended    Invariant = "call-intended"
	OutcomeCalled   Invariant = "outcome-called"
)

// Meaning is an invariant in a sentence.
type Meaning struct {
	Invariant Invariant
	Says      string
}

// Invariants returns what is checked.
func Invariants() []Meaning {
	return []Meaning{
		{Readable, "every message can be decoded, and says what its subject says"},
		{NoticeAnswered, "every notice that hydrate has settled led to a read of its record that began after it, to a dead letter, or to another end that is counted by name"},
		{SightMerged, "every record that a system showed and the transform has settled belongs to an entity, whose base is no older than the newest state of it on RAW"},
		{EventCaused, "every version of an entity names a message of RAW that is there, or has expired, and came that way"},
		{HistoryLinear, "an entity's versions follow one another without a gap, each published against the sequence of the one before, with the id and the type that it says"},
		{MergedOnce, "no message of RAW made two versions of one entity, but where entities were merged or taken apart"},
		{TagsDerived, "every tag that a contact's version gained or lost has its tag event, and every tag event its version"},
		{RecordOwned, "no record is linked by two living entities"},
		{LinkShown, "of every record that a living entity links it is known what it shows"},
		{ClaimHeld, "every claim names an entity that is there, if only as a tombstone, and every link of a living entity is claimed for it"},
		{EffectsLinear, "what the sink did to an entity is one history: each message was published against the sequence of the one before"},
		{IntentFirst, "every outcome follows its own intent: same version, same record"},
		{WriteCaused, "every write names a version that its entity has had"},
		{InOrder, "the versions written to one record never go back"},
		{CreatedOnce, "no entity was created twice at a system, but when what was made first is gone, or two entities were taken apart in between"},
		{NotAgain, "nothing is written to a record twice with the same content, unless the system was seen to show something else in between"},
		{WriteTold, "the transform was told of every write, before it by an intent and after it by a writeback, or a later read of the record"},
		{OutcomeRecorded, "no write that its sink has settled is left without an outcome, but if its record is gone or it is a dead letter"},
		{Written, "what a sink has settled is written: what the entity says at last is what the system is known to show, or a dead letter says why not"},
		{StaysQuiet, "nothing is written after the instant at which it was said to be quiet"},
		{CallIntended, "every call that changed something at a system came after an intent of the record's entity and before its outcome"},
		{OutcomeCalled, "every write that is said to be done reached the system, and no record was made of which no outcome says so"},
	}
}
