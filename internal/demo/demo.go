package demo

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/client"
)

// Options say which stack to drive.
type Options struct {
	// Origin is the public one, as "https://localhost:8443".
	Origin   string
	Operator Operator
	Roots    *x509.CertPool
	// IsolationKey is the platform's public key for reports of isolation.
	IsolationKey string
	// Keep is a directory that the artifacts are left in, or "".
	Keep string
	// Out gets a line a step, or nil.
	Out io.Writer
}

// organization is one tenant in the making.
type organization struct {
	id                       string
	legalName, slug, setting string
	owner                    person
	ownerName                string
	baa                      client.BAA
	facilities               map[string]string
}

// story is what the steps share.
type story struct {
	o        Options
	tls      client.Options
	suffix   string
	a, b     *organization
	operator *client.Client
	north    person // nurse of A at North
	south    person // nurse of A at South
	provider person // of B
	patient  client.Person
	note     client.Note
	kept     artifacts
}

// Run drives the whole story and reports every step. The error is about running at
// all; a promise not kept is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	begun := time.Now()
	s := &story{o: o, tls: client.Options{Roots: o.Roots}, suffix: secretWord()[3:9]}
	s.a = &organization{legalName: "Willow Creek Residential " + s.suffix, slug: "willow-" + s.suffix, setting: "residential", ownerName: "Olivia Hart"}
	s.b = &organization{legalName: "Harbor Street Clinic " + s.suffix, slug: "harbor-" + s.suffix, setting: "clinic", ownerName: "Noah Reyes"}
	r := &runner{out: o.Out}

	r.step(ctx, "stack is ready", s.ready)
	r.step(ctx, "two organizations sign up", s.signUp)
	r.step(ctx, "without a second factor nothing is reachable", s.noSecondFactor)
	r.step(ctx, "owners verify e-mail, set a password and enrol TOTP", s.owners)
	r.step(ctx, "owners read and sign the BAA", s.sign)
	r.step(ctx, "before the BAA is executed no tenant exists", s.gateShut)
	r.step(ctx, "an operator countersigns both", s.countersign)
	r.step(ctx, "both are provisioned and live", s.provisioned)
	r.step(ctx, "owners open facilities and invite clinical staff", s.staff)
	r.step(ctx, "clinical staff enrol TOTP", s.enrol)
	r.step(ctx, "nurse writes PHI", s.write)
	r.step(ctx, "nurse reads and finds PHI", s.read)
	r.step(ctx, "cross-tenant access is refused", s.crossTenant)
	r.step(ctx, "cross-facility access is refused", s.crossFacility)
	r.step(ctx, "audit export verifies offline", s.exportVerifies)
	r.step(ctx, "audit export with one changed byte is refused", s.exportTampered)
	r.step(ctx, "BAA evidence verifies offline and one changed byte is refused", s.bundleVerifies)
	r.step(ctx, "isolation is proven for both tenants", s.isolationProven)
	r.step(ctx, "a terminated BAA closes the tenant at once", s.terminate)
	r.step(ctx, "artifacts are kept", s.keep)

	r.report.OK = !r.failed
	r.report.Ms = time.Since(begun).Milliseconds()
	return r.report, nil
}

func (s *story) ready(ctx context.Context) (string, error) {
	c := client.New(s.o.Origin, s.tls)
	defer c.Close()
	err := until(ctx, 60*time.Second, 250*time.Millisecond, func(ctx context.Context) (bool, string, error) {
		err := c.Do(ctx, client.Request{Method: http.MethodGet, Path: "/readyz"}, nil)
		return err == nil, "", err
	})
	return s.o.Origin, err
}

func (s *story) signUp(ctx context.Context) (string, error) {
	c := client.New(s.o.Origin, s.tls)
	defer c.Close()
	for _, org := range []*organization{s.a, s.b} {
		org.owner.email = "owner@" + org.slug + ".example"
		got, err := c.SignUp(ctx, client.SignUp{
			Organization: client.SignUpOrganization{LegalName: org.legalName, Slug: org.slug, CareSetting: org.setting},
			Owner:        client.SignUpOwner{Name: org.ownerName, Email: org.owner.email},
		}, "demo-"+org.slug)
		if err != nil {
			return "", fmt.Errorf("%s: %w", org.slug, err)
		}
		if got.Slug != org.slug {
			return "", fmt.Errorf("slug %q, expected %q", got.Slug, org.slug)
		}
	}
	return s.a.slug + " (residential), " + s.b.slug + " (clinic)", nil
}

func (s *story) noSecondFactor(ctx context.Context) (string, error) {
	// The first session of A's owner: the mailed code was used, nothing else is set.
	a := &s.a.owner
	a.Client = client.New(s.o.Origin, s.tls)
	flow, code, err := mailedCode(ctx, a.Client, a.email)
	if err != nil {
		return "", err
	}
	if err := a.PresentCode(ctx, flow, code); err != nil {
		return "", err
	}
	if _, err := a.CurrentBAA(ctx); refused(err, http.StatusForbidden) != nil {
		return "", fmt.Errorf("reading the BAA: %w", refused(err, http.StatusForbidden))
	}
	if err := a.Tenant(s.a.slug).Do(ctx, http.MethodGet, "/clients", nil, nil); client.StatusOf(err) < 400 {
		return "", fmt.Errorf("reading clients was allowed")
	}
	return "403 for a session that only proved the e-mail address", nil
}

func (s *story) owners(ctx context.Context) (string, error) {
	a := &s.a.owner
	a.password = secretWord()
	if err := a.SetPassword(ctx, a.password); err != nil {
		return "", err
	}
	e, err := a.EnrolTOTP(ctx)
	if err != nil {
		return "", err
	}
	a.secret = e.Secret
	b := &s.b.owner
	if b.Client, b.password, b.secret, err = Join(ctx, s.o.Origin, s.tls, b.email); err != nil {
		return "", err
	}
	for _, p := range []person{*a, *b} {
		me, err := p.Me(ctx)
		if err != nil {
			return "", err
		}
		if me.Next != "sign_baa" {
			return "", fmt.Errorf("next step is %q, expected sign_baa", me.Next)
		}
	}
	return "both owners hold two-factor sessions", nil
}

func (s *story) sign(ctx context.Context) (string, error) {
	for _, org := range []*organization{s.a, s.b} {
		baa, err := org.owner.CurrentBAA(ctx)
		if err != nil {
			return "", err
		}
		baa, err = org.owner.SignBAA(ctx, baa.ID, client.Signature{Name: org.ownerName, Title: "Executive Director",
			Authority: "I am authorized to bind the organization.", Consent: true, Intent: true, DocumentSHA256: baa.DocumentSHA256})
		if err != nil {
			return "", err
		}
		if baa.State != "signed" {
			return "", fmt.Errorf("state is %q after signing", baa.State)
		}
		org.baa = baa
	}
	return "template " + s.a.baa.TemplateVersion + ", document " + s.a.baa.DocumentSHA256[:12], nil
}

func (s *story) gateShut(ctx context.Context) (string, error) {
	err := s.a.owner.Tenant(s.a.slug).Do(ctx, http.MethodGet, "/session", nil, nil)
	if err := refused(err, http.StatusNotFound); err != nil {
		return "", err
	}
	return "404: no route, no schema, no key", nil
}

func (s *story) countersign(ctx context.Context) (string, error) {
	s.operator = client.New(s.o.Operator.Origin, s.tls)
	if err := s.operator.SignIn(ctx, s.o.Operator.Email, s.o.Operator.Password, s.o.Operator.TOTPSecret); err != nil {
		return "", err
	}
	for _, org := range []*organization{s.a, s.b} {
		baa, err := s.operator.CountersignBAA(ctx, org.baa.ID, client.Signature{Name: "Riley Stone", Title: "Compliance Officer",
			Consent: true, Intent: true, DocumentSHA256: org.baa.DocumentSHA256})
		if err != nil {
			return "", err
		}
		if baa.State != "executed" {
			return "", fmt.Errorf("state is %q after countersigning", baa.State)
		}
		org.baa = baa
	}
	return "in force until " + s.a.baa.ExpiresAt.Format(time.DateOnly), nil
}

func (s *story) provisioned(ctx context.Context) (string, error) {
	steps := 0
	for _, org := range []*organization{s.a, s.b} {
		err := until(ctx, 40*time.Second, 150*time.Millisecond, func(ctx context.Context) (bool, string, error) {
			p, err := org.owner.Provisioning(ctx)
			if err != nil {
				return false, "", err
			}
			steps = len(p.Steps)
			why := p.State
			for _, st := range p.Steps {
				if st.State != "done" {
					why += " at " + st.Step + " " + st.Reason
					break
				}
			}
			return p.State == "live", why, nil
		})
		if err != nil {
			return "", fmt.Errorf("%s: %w", org.slug, err)
		}
		// The router learns of the route within moments of the state.
		err = until(ctx, 10*time.Second, 50*time.Millisecond, func(ctx context.Context) (bool, string, error) {
			err := org.owner.Tenant(org.slug).Do(ctx, http.MethodGet, "/session", nil, nil)
			return err == nil, "", err
		})
		if err != nil {
			return "", fmt.Errorf("%s: %w", org.slug, err)
		}
	}
	return fmt.Sprintf("%d steps each, schema, role, key, prefix, probed through the public route", steps), nil
}

// invite opens a facility and invites a person with a role there.
func (s *story) invite(ctx context.Context, org *organization, p *person, name, role, facility string) error {
	t := org.owner.Tenant(org.slug)
	if org.facilities == nil {
		org.facilities = map[string]string{}
	}
	word := strings.ReplaceAll(strings.ToLower(facility), " ", "-")
	f, err := t.CreateFacility(ctx, client.Facility{Name: facility}, "facility-"+word)
	if err != nil {
		return fmt.Errorf("facility %s: %w", facility, err)
	}
	org.facilities[facility] = f.ID
	p.email = role + "." + word + "@" + org.slug + ".example"
	_, err = t.CreateMember(ctx, client.NewMember{Email: p.email, Name: name, Role: role, Facilities: []string{f.ID}}, "member-"+p.email)
	if err != nil {
		return fmt.Errorf("member %s: %w", role, err)
	}
	return nil
}

func (s *story) staff(ctx context.Context) (string, error) {
	if err := s.invite(ctx, s.a, &s.north, "Nora Patel", "nurse", "north"); err != nil {
		return "", err
	}
	if err := s.invite(ctx, s.a, &s.south, "Sam Okafor", "nurse", "south"); err != nil {
		return "", err
	}
	if err := s.invite(ctx, s.b, &s.provider, "Priya Lindqvist", "provider", "harbor"); err != nil {
		return "", err
	}
	return "two nurses at two facilities of A, a provider at B", nil
}

func (s *story) enrol(ctx context.Context) (string, error) {
	var wg sync.WaitGroup
	people := []*person{&s.north, &s.south, &s.provider}
	errs := make([]error, len(people))
	for i, p := range people {
		wg.Go(func() {
			p.Client, p.password, p.secret, errs[i] = Join(ctx, s.o.Origin, s.tls, p.email)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return "", fmt.Errorf("%s: %w", people[i].email, err)
		}
	}
	return "three people hold two-factor sessions", nil
}
