package api_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// meet has all requests made while the row is held, and goes on when each waits for
// it: whoever does not take the row first does not wait, and is found out.
func meet(t *testing.T, cell *dptest.Cell, row string, requests ...func() dptest.Answer) []dptest.Answer {
	t.Helper()
	ctx := context.Background()
	holder := dptest.Super(t, cell.DB)
	tx, err := holder.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "SELECT 1 FROM "+row+" FOR NO KEY UPDATE")
	require.NoError(t, err)
	answers := make([]dptest.Answer, len(requests))
	var made sync.WaitGroup
	for i, request := range requests {
		made.Go(func() { answers[i] = request() })
	}
	waiting := func() bool {
		return cell.Count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == len(requests)
	}
	ok := assertWaits(waiting)
	require.NoError(t, tx.Rollback(ctx))
	made.Wait()
	require.True(t, ok, "not all of them wait for the row")
	return answers
}

func assertWaits(waiting func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if waiting() {
			return true
		}
	}
	return false
}

// TestWhatReplacesAWholeTakesTurns has two people replace or move the same thing at
// once: what one of them wanted is there in the end, and not a mixture.
func TestWhatReplacesAWholeTakesTurns(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	second := p.Person(t, tenants.RoleOwner)
	client, member := p.client.String(), p.member.String()

	assign := func(who *dptest.Person, facility tenants.ID) func() dptest.Answer {
		return func() dptest.Answer {
			return who.Do(t, "PUT", "/members/"+member+"/facilities", m{"facilities": []tenants.ID{facility}})
		}
	}
	p.Owner.Do(t, "PUT", "/members/"+member+"/facilities", m{"facilities": []tenants.ID{}}).Into(t, http.StatusOK, nil)
	for _, a := range meet(t, cell, p.Role+".member WHERE identity_id = '"+member+"'", assign(p.Owner, p.North), assign(second, p.South)) {
		a.Into(t, http.StatusOK, nil)
	}
	require.Equal(t, 1, cell.Count(t, "SELECT count(*) FROM "+p.Role+".member_facility WHERE identity_id = $1", p.member), "the member has what both assigned")

	team := func(who *dptest.Person, carer tenants.ID) func() dptest.Answer {
		return func() dptest.Answer {
			return who.Do(t, "PUT", p.at("/care-team"), m{"members": []m{{"member_id": carer, "duty": "aide"}}})
		}
	}
	row := p.Role + ".client WHERE id = '" + client + "'"
	for _, a := range meet(t, cell, row, team(p.Owner, p.Owner.ID), team(second, second.ID)) {
		a.Into(t, http.StatusOK, nil)
	}
	require.Equal(t, 1, cell.Count(t, "SELECT count(*) FROM "+p.Role+".care_team_member WHERE client_id = $1 AND ended_at IS NULL", p.client), "the team is what both named")

	move := func(who *dptest.Person) func() dptest.Answer {
		return func() dptest.Answer {
			return who.Do(t, "POST", p.at("/transfer"), m{"facility_id": p.South, "reason": "step-down"}, "Idempotency-Key", unique())
		}
	}
	var got []int
	for _, a := range meet(t, cell, row, move(p.Owner), move(second)) {
		got = append(got, a.Status)
	}
	slices.Sort(got)
	require.Equal(t, []int{http.StatusOK, http.StatusConflict}, got, "one moves, the other finds it moved")
	require.Equal(t, 1, cell.Count(t, "SELECT count(*) FROM "+p.Role+".client_placement WHERE client_id = $1 AND from_facility_id IS NOT NULL", p.client), "one move stands in the history")
}

// TestASearchForNothingFindsNobody gives a search a value that nobody can have, beside
// one that somebody has: left out, it would find others.
func TestASearchForNothingFindsNobody(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for _, c := range []struct {
		query m
		want  int
	}{
		{m{"family": "Alvarez"}, 1},
		{m{"family": "Alvarez", "birth_date": "1948-03-11"}, 1},
		{m{"family": "Alvarez", "record_number": "--"}, 0},
		{m{"family": "\u00a0", "birth_date": "1948-03-11"}, 0},
		{m{"record_number": "--"}, 0},
		{m{"birth_date": "1948-03-11"}, 2},
	} {
		var page struct{ Items []m }
		p.Owner.Do(t, "POST", "/clients/search", c.query).Into(t, http.StatusOK, &page)
		require.Len(t, page.Items, c.want, "%v", c.query)
	}
}

// TestANameThatNobodyCouldFindIsRefused writes names and numbers that hold nothing to
// search for.
func TestANameThatNobodyCouldFindIsRefused(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	before := rows(t, p)
	for field, change := range map[string]m{
		"body.name.family":   {"name": m{"given": "Rosa", "family": "\u200b"}},
		"body.record_number": {"record_number": "\u3007"},
	} {
		made := newClient(p.North, "Alvarez")
		for k, v := range change {
			made[k] = v
		}
		a := p.Owner.Do(t, "POST", "/clients", made)
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s: %s", field, a.Body)
		require.Contains(t, string(a.Body), `"`+field+`"`)
		change["version"] = 1
		a = p.Owner.Do(t, "PATCH", p.at(""), change)
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s: %s", field, a.Body)
		require.Contains(t, string(a.Body), `"`+field+`"`)
	}
	require.Equal(t, before, rows(t, p))
	p.Owner.Do(t, "PATCH", p.at(""), m{"version": 1, "record_number": "MRN 1"}).Into(t, http.StatusOK, nil)
}
