package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/session"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// Page is everything that a template is given.
type Page struct {
	// Title is the heading and the browser's title.
	Title string
	// Section marks the current entry of the navigation, by its path.
	Section string
	// Lead is a sentence below the heading.
	Lead string
	// Steps show the way of onboarding; empty for none.
	Steps []ProgressStep
	// Notice is shown above the content.
	Notice *Notice
	// Refresh, if not zero, reloads the page by itself: for states that change.
	Refresh time.Duration
	// Wide lifts the limit of the text's width, for tables.
	Wide bool
	// Data is the page's own.
	Data any

	// The renderer fills these.
	Realm   session.Realm
	Session *session.Current
	Nav     []NavItem
	Dev     bool
}

// Notice is a message about the whole page. Kind is info, success, warning or error.
type Notice struct {
	Kind, Text string
}

// NavItem is an entry of the navigation.
type NavItem struct {
	Path, Label string
}

// Renderer turns templates into answers. It is safe for concurrent use.
type Renderer struct {
	realm  session.Realm
	nav    []NavItem
	dev    bool
	pages  map[string]*template.Template
	assets map[string]string
}

// NewRenderer parses every template. nav is shown to whoever is signed in; dev
// marks pages of a local stack.
func NewRenderer(realm session.Realm, nav []NavItem, dev bool) (*Renderer, error) {
	r := &Renderer{realm: realm, nav: nav, dev: dev, pages: map[string]*template.Template{}, assets: map[string]string{}}
	if err := r.hashAssets(); err != nil {
		return nil, err
	}
	base, err := template.New("layout.html").Funcs(r.funcs()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the layout: %w", err)
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(path.Base(f), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			_, err = t.ParseFS(templateFiles, f)
		}
		if err != nil {
			return nil, fmt.Errorf("parsing the page %s: %w", name, err)
		}
		r.pages[name] = t
	}
	return r, nil
}

func (r *Renderer) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":   func(name string) string { return r.assets[name] },
		"seconds": func(d time.Duration) int { return int(d.Seconds()) },
		"date":    func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"moment":  func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		// words shows an identifier as text: await_countersignature as "await countersignature".
		"words": func(s any) string { return strings.ReplaceAll(fmt.Sprint(s), "_", " ") },
		"inc":   func(i int) int { return i + 1 },
		// dataImage admits an image that Kratos made: a PNG in a data URL, nothing else.
		"dataImage": func(s string) template.URL {
			if !strings.HasPrefix(s, "data:image/png;base64,") || strings.ContainsAny(s, "\"'<> ") {
				return ""
			}
			return template.URL(s) //nolint:gosec // checked on the line above
		},
	}
}

// Render answers with a page. The session, if SignedIn or Maybe found one, is
// added to it.
func (r *Renderer) Render(c *fiber.Ctx, status int, name string, p Page) error {
	t, ok := r.pages[name]
	if !ok {
		return fmt.Errorf("there is no page %q", name)
	}
	p.Realm, p.Nav, p.Dev = r.realm, r.nav, r.dev
	if cur, ok := Current(c); ok && p.Session == nil {
		p.Session = &cur
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout", p); err != nil {
		return fmt.Errorf("rendering the page %s: %w", name, err)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	return c.Status(status).Send(b.Bytes())
}

func (r *Renderer) hashAssets() error {
	return fs.WalkDir(assetFiles, "assets", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assetFiles.ReadFile(p)
		if err != nil {
			return fmt.Errorf("reading an asset: %w", err)
		}
		sum := sha256.Sum256(b)
		name := strings.TrimPrefix(p, "assets/")
		r.assets[name] = "/assets/" + name + "?v=" + hex.EncodeToString(sum[:6])
		return nil
	})
}

var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".js": "text/javascript; charset=utf-8"}

// MountAssets serves the style sheet and images. Their addresses change with
// their content, so they may be kept for good.
func (r *Renderer) MountAssets(app fiber.Router) {
	serve := func(c *fiber.Ctx) error {
		name := strings.TrimPrefix(c.Path(), "/assets/")
		if c.Path() == "/favicon.ico" {
			name = "mark.svg"
		}
		if _, ok := r.assets[name]; !ok {
			return fiber.ErrNotFound
		}
		b, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			return fmt.Errorf("reading an asset: %w", err)
		}
		c.Set(fiber.HeaderContentType, assetTypes[path.Ext(name)])
		c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
		return c.Send(b)
	}
	app.Get("/assets/*", serve)
	app.Get("/favicon.ico", serve)
}
