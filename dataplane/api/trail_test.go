package api_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// seal runs a real sealer over the cell until the test ends.
func seal(t *testing.T, cell *dptest.Cell, orgs ...*dptest.Tenant) {
	t.Helper()
	control := testkit.ControlDB(t)
	open := func(dsn string) *pgxpool.Pool {
		p, err := pg.Open(context.Background(), dsn, pg.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	s, err := sealer.New(sealer.Config{Key: cell.AuditKey, Sweep: 200 * time.Millisecond, Sources: []sealer.Source{{
		Pool: open(cell.DB.DSN("cell_sealer")), Anchor: sealer.PostgresAnchor{Pool: open(control.DSN("provisioner"))},
		Logs: func(context.Context) (logs []audit.Log, _ error) {
			for _, o := range orgs {
				logs = append(logs, audit.TenantLog(o.ID, o.Role))
			}
			return logs, nil
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
}

func TestTheTrailIsExported(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	seal(t, cell, p.Tenant)
	auditor := p.Person(t, tenants.RoleAuditor)
	var keys []string
	for l := range strings.Lines(string(auditor.Do(t, "GET", "/audit/keys", nil).Body)) {
		keys = append(keys, strings.TrimSpace(l))
	}
	if len(keys) != 2 {
		t.Fatalf("%d verifier keys", len(keys))
	}
	for format, kind := range map[string]string{"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"} {
		a := auditor.Do(t, "GET", "/audit/export?format="+format, nil)
		if a.Status != http.StatusOK || a.Header.Get("Content-Type") != kind {
			t.Fatalf("%s: %d %s %s", format, a.Status, a.Header.Get("Content-Type"), a.Body)
		}
		verified(t, a.Body, keys, true)
		if !strings.Contains(string(a.Body), "audit.export") {
			t.Error("the export does not hold the entry of itself")
		}
		changed := strings.Replace(string(a.Body), "client.create", "client.delete", 1)
		verified(t, []byte(changed), keys, false)
	}
	nurse := p.Person(t, tenants.RoleNurse, p.North)
	if a := nurse.Do(t, "GET", "/audit/export", nil); a.Status != 403 {
		t.Errorf("a nurse's export answers %d", a.Status)
	}
}

func verified(t *testing.T, file []byte, keys []string, want bool) {
	t.Helper()
	known, err := verify.ParseKeys(strings.Join(keys, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := verify.File(strings.NewReader(string(file)), known)
	if ok := err == nil && report.OK; ok != want {
		t.Errorf("verifying: %v %+v", err, report)
	}
}

func TestTheTrailIsSearched(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	nurse := p.Person(t, tenants.RoleNurse, p.North)
	nurse.Do(t, "GET", p.at(""), nil).Into(t, http.StatusOK, nil)
	nurse.Do(t, "GET", "/clients/"+p.elsewhere.String(), nil).Into(t, http.StatusNotFound, nil)
	auditor := p.Person(t, tenants.RoleAuditor)
	for query, want := range map[string]int{
		"actor=" + nurse.ID.String():                                                                               3,
		"actor=" + nurse.ID.String() + "&outcome=denied":                                                           1,
		"actor=" + nurse.ID.String() + "&action=client.read":                                                       2,
		"record_id=" + p.client.String() + "&action=client.read":                                                   1,
		"record_type=client&action=client.create":                                                                  2,
		"facility=" + p.South.String() + "&action=client.create":                                                   1,
		"to=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339)):                                   0,
		"from=" + url.QueryEscape(time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)) + "&action=client.create": 2,
	} {
		var page struct {
			Items []struct{ Action, IP string }
		}
		auditor.Do(t, "GET", "/audit/entries?"+query, nil).Into(t, http.StatusOK, &page)
		if len(page.Items) != want {
			t.Errorf("%s finds %d entries, not %d: %+v", query, len(page.Items), want, page.Items)
		}
	}
	if n := cell.Count(t, "SELECT count(*) FROM "+p.Role+".audit_entry WHERE action = 'audit.search' AND actor_id = $1", auditor.ID); n != 8 {
		t.Errorf("%d searches are in the trail", n)
	}
}

func TestTheProbe(t *testing.T) {
	cell := dptest.Start(t)
	org, other := cell.Tenant(t, "harbor", tenants.Residential), cell.Tenant(t, "meadow", tenants.Residential)
	org.Open(tenants.GateProbe)
	mint := func(id tenants.ID, at time.Time) string {
		token, err := probe.Mint(cell.Probe, id, at)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	run := func(slug, token string) dptest.Answer {
		return cell.Do(t, "POST", "/t/"+slug+"/v1/probe", nil, "Authorization", "Bearer "+token)
	}
	token := mint(org.ID, time.Now())
	var ok struct{ OK bool }
	run(org.Slug, token).Into(t, http.StatusOK, &ok)
	if !ok.OK {
		t.Error("the probe does not say ok")
	}
	for name, a := range map[string]dptest.Answer{
		"the same token again": run(org.Slug, token),
		"another tenant's":     run(org.Slug, mint(other.ID, time.Now())),
		"an old token":         run(org.Slug, mint(org.ID, time.Now().Add(-time.Hour))),
		"no token":             run(org.Slug, ""),
		"an unknown slug":      run("nobody-here", mint(org.ID, time.Now())),
		"a changed token":      run(org.Slug, "A"+mint(org.ID, time.Now())),
		"a session as a token": run(org.Slug, org.Owner.Token),
	} {
		if a.Status != http.StatusNotFound {
			t.Errorf("%s answers %d: %s", name, a.Status, a.Body)
		}
	}
	if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".probe"); n != 0 {
		t.Errorf("%d probe rows are left", n)
	}
	if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE action = 'probe.run' AND actor_kind = 'system'"); n != 1 {
		t.Errorf("%d probes are in the trail", n)
	}
	expect(t, org.Owner, 403, tenants.KindGateClosed)
	if err := cell.KMS.Disable(t.Context(), keyName(org.ID)); err != nil {
		t.Fatal(err)
	}
	cell.Door.Forget(org.ID)
	if a := run(org.Slug, mint(org.ID, time.Now())); a.Status/100 == 2 {
		t.Errorf("the probe passes without a key: %s", a.Body)
	}
}
