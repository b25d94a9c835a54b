package novisim

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// seat is a member's place on a committee; it is immutable once stored. Seats
// are not in the ledger.
type seat struct {
	id, committee string
	values        map[string]any // writable keys, all of them
}

// seatFields are the writable keys of a committee member (dossier Novi §5.4).
// PUT sets all of them: the absent ones to null.
var seatFields = []string{"MemberUniqueID", "Role", "CommitteeSection", "Status", "TermStart", "TermEnd", "InternalNotes", "HasCredits", "CreditNotes",
	"CreditsPossible", "CreditsAwarded", "CreditAwardMethod", "CreditTypes", "InstructorMemberUniqueIds"}

// Seats returns how many places on committees are taken.
func (s *Server) Seats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seats)
}

func (s *Server) renderCommittee(c Committee) map[string]any {
	n := 0
	for _, x := range s.seats {
		if x.committee == c.UniqueID {
			n++
		}
	}
	return map[string]any{"UniqueID": c.UniqueID, "Name": c.Name, "Active": !c.Inactive, "InternalDescription": nil, "PrimaryMemberCount": n,
		"BeneficiaryMemberCount": 0, "AwardCreditsAfterPercentage": 0, "LastCalculatedUTCDateTime": nil}
}

// listCommittees filters on when a roster last changed, by the day and with
// both days included; one that never did is in no window (invented).
func (s *Server) listCommittees(w http.ResponseWriter, r *http.Request, _ []byte) {
	bounds, ok := s.bounds(w, r, "lastUpdatedDateFrom", "lastUpdatedDateTo")
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(s.conf.Committees), func(c Committee) bool {
		return bounds != [2]time.Time{} && !within(s.rosterAt[c.UniqueID], bounds)
	})
	paged(w, r, found, func(c Committee) any { return s.renderCommittee(c) })
}

func committeeID(c Committee) string { return c.UniqueID }

func (s *Server) getCommittee(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := indexed(w, r, s.conf.Committees, committeeID); i >= 0 {
		reply(w, http.StatusOK, s.renderCommittee(s.conf.Committees[i]))
	}
}

func (s *Server) renderSeat(x *seat) map[string]any {
	out := maps.Clone(x.values)
	out["UniqueID"], out["CommitteeUniqueID"], out["Inherited"], out["CommitteeName"] = x.id, x.committee, false, nil
	for _, c := range s.conf.Committees {
		if c.UniqueID == x.committee {
			out["CommitteeName"] = c.Name
		}
	}
	return out
}

func (s *Server) listSeats(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if indexed(w, r, s.conf.Committees, committeeID) < 0 {
		return
	}
	out := []any{}
	for _, x := range s.seats {
		if x.committee == r.PathValue("id") {
			out = append(out, s.renderSeat(x))
		}
	}
	reply(w, http.StatusOK, out)
}

// seat returns the index of the place that r is about, or answers 404 and
// returns -1. The caller holds mu.
func (s *Server) seat(w http.ResponseWriter, r *http.Request) int {
	i := slices.IndexFunc(s.seats, func(x *seat) bool { return x.id == r.PathValue("seat") && x.committee == r.PathValue("id") })
	if i < 0 {
		message(w, http.StatusNotFound, "Not found.")
	}
	return i
}

func (s *Server) getSeat(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.seat(w, r); i >= 0 {
		reply(w, http.StatusOK, s.renderSeat(s.seats[i]))
	}
}

// laySeat makes a place of a body, or answers 400.
func (s *Server) laySeat(w http.ResponseWriter, body map[string]any, id, committee string) *seat {
	x := &seat{id: id, committee: committee, values: map[string]any{}}
	for _, f := range seatFields {
		x.values[f] = body[f]
	}
	member, _ := body["MemberUniqueID"].(string)
	if s.members[member] == nil {
		invalid(w, "MemberUniqueID", "There is no such member.")
		return nil
	}
	for _, f := range []string{"TermStart", "TermEnd"} {
		if body[f] == nil {
			continue
		}
		text, _ := body[f].(string)
		at, ok := s.time(text)
		if !ok {
			invalid(w, f, "The value is not a date.")
			return nil
		}
		x.values[f] = s.stamp(at)
	}
	return x
}

func (s *Server) createSeat(w http.ResponseWriter, r *http.Request, raw []byte) {
	body, ok := object(w, raw)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if indexed(w, r, s.conf.Committees, committeeID) < 0 {
		return
	}
	committee := r.PathValue("id")
	if slices.ContainsFunc(s.seats, func(x *seat) bool {
		return x.committee == committee && x.values["MemberUniqueID"] == body["MemberUniqueID"]
	}) {
		invalid(w, "MemberUniqueID", "The member is on the committee.")
		return
	}
	if x := s.laySeat(w, body, s.guid(), committee); x != nil {
		s.seats = append(s.seats, x)
		s.rosterAt[committee] = s.conf.Now()
		reply(w, http.StatusCreated, s.renderSeat(x))
	}
}

func (s *Server) putSeat(w http.ResponseWriter, r *http.Request, raw []byte) {
	body, ok := object(w, raw)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.seat(w, r)
	if i < 0 {
		return
	}
	old := s.seats[i]
	next := s.laySeat(w, body, old.id, old.committee)
	if next == nil {
		return
	}
	for _, f := range seatFields {
		if _, sent := body[f]; !sent && old.values[f] != nil {
			s.stats.NulledSeats++
			break
		}
	}
	s.seats[i] = next
	s.rosterAt[old.committee] = s.conf.Now()
	reply(w, http.StatusOK, s.renderSeat(next))
}

func (s *Server) removeSeat(w http.ResponseWriter, r *http.Request, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.seat(w, r); i >= 0 {
		s.rosterAt[s.seats[i].committee] = s.conf.Now()
		s.seats = slices.Delete(s.seats, i, i+1)
		w.WriteHeader(http.StatusNoContent)
	}
}
