package e2e_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

func TestPlantedPHIIsNowhereInClear(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "secrecy")
	// Letters and digits of one case, so that no normalization hides it.
	planted, plain := "zq"+word()+word(), "qz"+word()+word()
	x, owner := w.wire(t, w.Origin()).as(l.Nurse.Client), w.wire(t, w.Origin()).as(l.Owner.Client)
	base := "/t/" + l.Slug + "/v1"
	a := owner.do(t, http.MethodPost, base+"/facilities", m{"name": plain})
	require.Equal(t, http.StatusCreated, a.status, a.body)
	var elsewhere struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(a.body), &elsewhere))

	p, fields := plantAll(t, owner, l, elsewhere.ID, planted)
	t.Logf("planted in %d fields: %s", len(fields), strings.Join(fields, ", "))
	at := base + "/clients/" + p.ID
	found := owner.do(t, http.MethodPost, base+"/clients/search", m{"record_number": planted})
	require.Contains(t, found.body, p.ID)
	moved := owner.do(t, http.MethodPost, at+"/transfer", m{"facility_id": l.Facility, "reason": planted})
	require.Equal(t, http.StatusOK, moved.status, moved.body)

	// What is wrong, out of reach or in the wrong place is not repeated either.
	other := w.other(t)
	for name, send := range map[string]func() reply{
		"a wrong date": func() reply {
			return x.do(t, http.MethodPost, base+"/clients", m{"facility_id": l.Facility, "name": m{"given": "A", "family": "B"}, "birth_date": planted})
		},
		"a wrong shift": func() reply { return x.do(t, http.MethodPost, at+"/notes", m{"shift": planted, "body": "x"}) },
		"a wrong type": func() reply {
			return x.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": []string{planted}})
		},
		"no JSON": func() reply { return x.do(t, http.MethodPost, at+"/notes", []byte(`{"body": "`+planted)) },
		"no media type": func() reply {
			return x.with("Content-Type", "text/plain").do(t, http.MethodPost, at+"/notes", []byte(planted))
		},
		"too long": func() reply {
			return x.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": strings.Repeat(planted, 40000)})
		},
		"in the path":   func() reply { return x.do(t, http.MethodGet, base+"/clients/"+planted, nil) },
		"as the tenant": func() reply { return x.do(t, http.MethodGet, "/t/"+planted+"/v1/clients", nil) },
		"in the query":  func() reply { return x.do(t, http.MethodGet, base+"/clients?family="+planted, nil) },
		"as the cursor": func() reply { return x.do(t, http.MethodGet, base+"/clients?cursor="+planted, nil) },
		"no such page":  func() reply { return x.do(t, http.MethodGet, "/"+planted, nil) },
		"another tenant's": func() reply {
			return w.wire(t, w.Origin()).as(other.Nurse.Client).do(t, http.MethodPost, base+"/clients/search", m{"family": planted})
		},
		"a key twice": func() reply {
			k := x.with("Idempotency-Key", word())
			k.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": planted})
			return k.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": planted + planted})
		},
	} {
		a := send()
		assert.True(t, a.status >= 400 && a.status < 500, "%s: %d %s", name, a.status, a.body)
		assert.NotContains(t, strings.ToLower(a.body), planted, "%s is repeated in the refusal", name)
	}
	w.requireEverySealed(t, l, planted, plantedDate, planted+"@example.com")
	// The trail of the export is written and the spans of the last request are on disk.
	last := x.do(t, http.MethodGet, at, nil)
	require.Contains(t, last.body, planted)
	w.spans(t, last.head.Get("X-Request-Id"))
	// What is harmless and must be found, or the search did not look where it says.
	known := w.known(t, l, last)

	// The twin, in the same search: a marker where each kind of slip would leave it.
	slips, markers, addresses := w.slips(t), map[string]string{}, w.metrics(t)
	words := append([]string{planted, plain, plantedDate}, slices.Collect(maps.Keys(known))...)
	for kind, slip := range slips {
		markers[kind] = "zw" + word() + word()
		words = append(words, markers[kind])
		if x := slip(markers[kind]); x != nil {
			addresses = append(addresses, *x)
		}
	}
	h := newHunt(words...)
	h.everywhere(t, w, addresses...)
	require.NotEmpty(t, h.in(plain, devstack.CellDatabase+"."), "the search finds what is stored in clear, as a facility's name is")
	for word, places := range known {
		for what, prefix := range places {
			assert.NotEmpty(t, h.in(word, prefix), "%s, %s, is not found below %s", what, word, prefix)
		}
	}
	require.Greater(t, h.searched[inObjects], 1, "objects of the store are there beside the planted one")
	t.Logf("searched: %v", h.searched)
	noticed := 1
	for kind, marker := range markers {
		if assert.NotEmpty(t, h.found[marker], "%s would go unnoticed", kind) {
			noticed++
		}
	}
	prove.Plant(t, prove.PlantedPHI, len(slips)+1, noticed)
	assert.Empty(t, h.found[planted], "PHI in clear")
	assert.Empty(t, h.found[plantedDate], "PHI in clear")
	prove.State(t, prove.PlantedPHI, h.of(inLogs, inObjects, inState, inRows, inMetrics), len(h.found[planted])+len(h.found[plantedDate]))
}
