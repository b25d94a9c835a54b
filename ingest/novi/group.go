package novi

import (
	"context"
	"fmt"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// membership is a group as a member's Groups name it (§5.4).
type membership struct {
	GroupUniqueID string
	GroupName     string
}

// Memberships returns who is in which group, from the groups' side: those that
// are by conditions change without an edit of anybody (§7).
func (r *Reader) Memberships(ctx context.Context) (map[canonical.ExternalID]observation.Observation, error) {
	all, err := r.client.Groups(ctx, r.sweeping)
	if err != nil {
		return nil, err
	}
	in := map[canonical.ExternalID][]membership{}
	for _, g := range all {
		members, err := r.membersOf(ctx, g)
		if apierr.ClassOf(err) == apierr.Gone {
			continue // it went in between
		}
		if err != nil {
			return nil, err
		}
		for id := range members {
			in[id] = append(in[id], membership{g.UniqueID, g.Name})
		}
	}
	out := make(map[canonical.ExternalID]observation.Observation, len(in))
	for id, of := range in {
		if out[id], err = grouped(id, of); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// membersOf pages through a group's members by offset.
func (r *Reader) membersOf(ctx context.Context, g noviapi.Group) (map[canonical.ExternalID]bool, error) {
	members := map[canonical.ExternalID]bool{}
	for c := (cursor{Total: -1}); ; {
		found, total, err := r.client.GroupMembers(ctx, r.sweeping, g.UniqueID, c.Offset, pageSize)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			members[canonical.ExternalID(m.UniqueID)] = true
		}
		next, err := c.next(len(found), total)
		if err != nil || next == nil {
			return members, err
		}
		c = cursor{}
		if err := json.Unmarshal(next, &c); err != nil {
			return nil, fmt.Errorf("list group members: cursor: %w", err)
		}
	}
}

// Outsider shows somebody who is in no group.
func (r *Reader) Outsider(id canonical.ExternalID) observation.Observation {
	o, _ := grouped(id, []membership{}) // of two strings nothing fails
	return o
}

func grouped(id canonical.ExternalID, of []membership) (observation.Observation, error) {
	record, err := json.Marshal(map[string]any{"UniqueID": id, "Groups": of})
	if err != nil {
		return observation.Observation{}, fmt.Errorf("groups of member %s: %w", id, err)
	}
	return observation.Observation{System: canonical.Novi, ExternalID: id, Endpoint: observation.NoviMemberList, Record: record}, nil
}
