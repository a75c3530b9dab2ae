// Package openapi keeps the descriptions of the APIs that are committed under
// docs/openapi equal to what the programs serve.
//
// It owns the form of those files. It takes a description from the app itself, so
// no second source can drift; it never changes what an app serves.
package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/gofiber/fiber/v2"
)

// WriteVariable names the environment variable with which the tests write the
// files in place of comparing them; `make openapi` sets it.
const WriteVariable = "CARESPHERE_WRITE_OPENAPI"

// Describe returns the document that the app serves at /openapi.json, indented and
// with its keys in order, so that a change of the API is a readable change of the file.
func Describe(app *fiber.App) ([]byte, error) {
	req := httptest.NewRequest(http.MethodGet, "/openapi.json", nil)
	resp, err := app.Test(req, -1)
	if err != nil {
		return nil, fmt.Errorf("asking the app for its description: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the description: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the app answers %d for its description", resp.StatusCode)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return nil, fmt.Errorf("the description is no JSON: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Keep compares the file with what the app serves, or writes it if write is set.
// The error of a stale file names its first differing line.
func Keep(app *fiber.App, file string, write bool) error {
	current, err := Describe(app)
	if err != nil {
		return err
	}
	if write {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			return fmt.Errorf("writing a description: %w", err)
		}
		if err := os.WriteFile(file, current, 0o644); err != nil { //nolint:gosec // a document for everybody to read
			return fmt.Errorf("writing a description: %w", err)
		}
		return nil
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the kept description (make openapi writes it): %w", err)
	}
	if bytes.Equal(kept, current) {
		return nil
	}
	was, is := bytes.Split(kept, []byte("\n")), bytes.Split(current, []byte("\n"))
	n := 0
	for n < len(was) && n < len(is) && bytes.Equal(was[n], is[n]) {
		n++
	}
	return fmt.Errorf("%s is not current from line %d on: run make openapi", file, n+1)
}
