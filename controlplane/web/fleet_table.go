package web

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// fleetLimit is how many organizations the table holds; a search narrows it. The file
// holds all.
const fleetLimit = 500

type fleetPage struct {
	Items  []fleet.Organization
	Search string
	State  string
	Sort   string
	Desc   bool
	States []tenants.State
	// Cut tells that there are more than the table holds.
	Cut bool
	// Columns are the sortable headings with their links.
	Columns []column
	CSV     string
}

type column struct {
	Label, Link, Direction string
}

var sorts = []struct {
	name, label string
	by          func(a, b fleet.Organization) int
}{
	{"name", "Organization", func(a, b fleet.Organization) int {
		return cmp.Compare(strings.ToLower(a.LegalName), strings.ToLower(b.LegalName))
	}},
	{"state", "State", func(a, b fleet.Organization) int { return cmp.Compare(a.State, b.State) }},
	{"gate", "Gate", func(a, b fleet.Organization) int { return cmp.Compare(a.Gate.Mode, b.Gate.Mode) }},
	{"agreement", "Agreement", func(a, b fleet.Organization) int { return cmp.Compare(a.BAA.State, b.BAA.State) }},
	{"expires", "Expires", func(a, b fleet.Organization) int { return moment(a.BAAExpiresAt).Compare(moment(b.BAAExpiresAt)) }},
	{"created", "Signed up", func(a, b fleet.Organization) int { return a.CreatedAt.Compare(b.CreatedAt) }},
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// asked reads what the query asks for. What it does not know it leaves at the
// default: a page is no place for a problem document.
func asked(c *fiber.Ctx) (p fleetPage, f fleet.Filter) {
	p = fleetPage{Search: strings.TrimSpace(c.Query("search")), Sort: c.Query("sort", "created"), Desc: c.Query("dir", "desc") == "desc", States: tenants.States()}
	if len(p.Search) > 100 {
		p.Search = p.Search[:100]
	}
	p.Search = strings.ToValidUTF8(strings.ReplaceAll(p.Search, "\x00", ""), "")
	if slices.Contains(p.States, tenants.State(c.Query("state"))) {
		p.State = c.Query("state")
	}
	return p, fleet.Filter{Search: p.Search, State: tenants.State(p.State)}
}

// arrange sorts the organizations as asked, with the links that sort them otherwise.
func (p *fleetPage) arrange(list []fleet.Organization) {
	known := false
	for _, s := range sorts {
		link := url.Values{"sort": {s.name}, "dir": {"asc"}}
		col := column{Label: s.label}
		if s.name == p.Sort {
			known = true
			col.Direction = "ascending"
			slices.SortStableFunc(list, s.by)
			if p.Desc {
				col.Direction = "descending"
				slices.Reverse(list)
			} else {
				link.Set("dir", "desc")
			}
		}
		col.Link = "/organizations?" + p.query(link)
		p.Columns = append(p.Columns, col)
	}
	if !known {
		p.Sort = "created"
	}
	p.Items = list
	dir := "asc"
	if p.Desc {
		dir = "desc"
	}
	p.CSV = "/organizations.csv?" + p.query(url.Values{"sort": {p.Sort}, "dir": {dir}})
}

func (p fleetPage) query(v url.Values) string {
	if p.Search != "" {
		v.Set("search", p.Search)
	}
	if p.State != "" {
		v.Set("state", p.State)
	}
	return v.Encode()
}

func (h operations) list(c *fiber.Ctx) error {
	p, filter := asked(c)
	filter.Limit = fleetLimit
	list, err := h.fleet.List(c.UserContext(), person(c).Actor, filter)
	if err != nil {
		return err
	}
	p.Cut = len(list) == fleetLimit
	p.arrange(list)
	page := Page{Title: "Organizations", Section: "/organizations", Wide: true, Data: p}
	if page.Notice, err = quarantineNotice(c.UserContext(), h.proofs); err != nil {
		return err
	}
	return h.site.Render(c, http.StatusOK, "organizations", page)
}

// csv gives everything that the table's search and state select as a file, however
// much it is. It is read whole before the first line: the file is sorted like the
// table, its entry in the trail says how many organizations left, and what cannot be
// read to the end is refused and not cut off.
func (h operations) csv(c *fiber.Ctx) error {
	p, filter := asked(c)
	list, err := h.fleet.Export(c.UserContext(), person(c).Actor, filter)
	if err != nil {
		return err
	}
	p.arrange(list)
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="organizations.csv"`)
	httpx.Stream(c, func(_ context.Context, out *bufio.Writer) error {
		w := csv.NewWriter(out)
		if err := writeRow(w, "id", "slug", "legal_name", "care_setting", "state", "state_reason", "gate", "gate_reason", "agreement",
			"agreement_expires", "owner", "plan", "cell", "signed_up"); err != nil {
			return err
		}
		for _, o := range list {
			expires := ""
			if o.BAAExpiresAt != nil {
				expires = o.BAAExpiresAt.UTC().Format(time.RFC3339)
			}
			if err := writeRow(w, o.ID.String(), o.Slug, o.LegalName, string(o.CareSetting), string(o.State), o.StateReason, string(o.Gate.Mode),
				string(o.Gate.Reason), string(o.BAA.State), expires, o.OwnerEmail, o.Plan, o.CellID, o.CreatedAt.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	})
	return nil
}

// writeRow writes a line. A cell that a spreadsheet would take for a formula is
// quoted: names come from sign-ups by anybody.
func writeRow(w *csv.Writer, row ...string) error {
	for i, cell := range row {
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			row[i] = "'" + cell
		}
	}
	return w.Write(row)
}
