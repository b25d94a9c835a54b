package novi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
)

// Restore gives a member back what a PUT has overwritten; see [apply.Restorer].
// Activities have no time of change, so nobody can say of a sight of one that
// it came before the PUT.
func (d *Destination) Restore(ctx context.Context, ref apply.Ref, before, lost apply.Reading) (now apply.Reading, after []apply.Reading, err error) {
	if ref.Kind != canonical.KindContact {
		return now, nil, nil
	}
	c := contacts{d}
	if now, err = c.readToUpdate(ctx, ref); err != nil {
		return now, nil, err
	}
	if err := c.whole("restore member", now.Record); err != nil {
		return now, nil, err
	}
	body, n, err := giveBack(now.Record, before.Record, lost.Record, lost.Endpoint == observation.NoviMemberList)
	if err != nil {
		return now, nil, &apierr.Error{System: "novi", Op: "restore member", Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	if n == 0 {
		return now, nil, nil
	}
	r, err := d.client.PutMember(ctx, budget.Live, string(ref.ID), body)
	if err != nil {
		return now, nil, err
	}
	d.replaced(canonical.KindContact, now.ReadBegan)
	after, err = reread(ctx, c.read, ref)
	return now, written(answered(memberReading(r), after), r), err
}

// giveBack lays over now what lost and before differ in, where now is still as
// before: n keys. A row of a list may leave out what the record has, so there
// a null says nothing.
func giveBack(now, before, lost json.RawMessage, row bool) (body json.RawMessage, n int, err error) {
	var records [3]map[string]json.RawMessage
	for i, raw := range []json.RawMessage{now, before, lost} {
		if err := json.Unmarshal(raw, &records[i]); err != nil || records[i] == nil {
			return nil, 0, errors.New("the member as read is not of the expected shape")
		}
	}
	if n, err = lay(records[0], records[1], records[2], row); err != nil || n == 0 {
		return nil, n, err
	}
	body, err = json.Marshal(records[0])
	return body, n, err
}

func lay(now, before, lost map[string]json.RawMessage, row bool) (n int, err error) {
	for key, value := range lost {
		if row && isNull(value) || same(value, before[key]) {
			continue
		}
		// Of an object, such as an address, each key is looked at by itself.
		var inner [3]map[string]json.RawMessage
		for i, raw := range []json.RawMessage{now[key], before[key], value} {
			_ = json.Unmarshal(raw, &inner[i]) // what is no object stays nil
		}
		switch {
		case inner[0] != nil && inner[1] != nil && inner[2] != nil:
			more, err := lay(inner[0], inner[1], inner[2], row)
			if err != nil {
				return n, err
			}
			if more > 0 {
				if now[key], err = json.Marshal(inner[0]); err != nil {
					return n, fmt.Errorf("%s: %w", key, err)
				}
				n += more
			}
		case same(now[key], before[key]):
			now[key] = value
			n++
		}
	}
	return n, nil
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// same compares values; a key that isn't there is null.
func same(a, b json.RawMessage) bool {
	if isNull(a) || isNull(b) {
		return isNull(a) && isNull(b)
	}
	var x, y any
	return bytes.Equal(a, b) || json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// written notes in readings when the site says that a PUT was, which it
// answered with r.
func written(readings []apply.Reading, r noviapi.Record) []apply.Reading {
	for i := range readings {
		readings[i].Written = r.Modified
	}
	return readings
}

// replaced tells of a PUT that has been answered.
func (d *Destination) replaced(kind canonical.Kind, began time.Time) {
	if d.Replaced != nil {
		d.Replaced(kind, began)
	}
}
