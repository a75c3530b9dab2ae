package routes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/tenants"
)

// fetchTimeout bounds one look at the table.
const fetchTimeout = 10 * time.Second

// Reader returns a function that asks the control plane at the base address for the table
// that it hands out now, and verifies it by the public key in a file. Nothing is kept: it
// is for those who look at the table and route nothing. conf is for mutual TLS. The
// function's error wraps ErrNotAuthentic if that key did not sign the table.
func Reader(url, keyFile string, conf *tls.Config) (func(context.Context) (tenants.RouteTable, error), error) {
	pub, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the route table's key: %w", err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(pub)))
	if err != nil {
		return nil, fmt.Errorf("reading the route table's key: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	return func(ctx context.Context) (tenants.RouteTable, error) {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		doc, err := ask(ctx, client, url, 0)
		if err != nil {
			return tenants.RouteTable{}, err
		}
		if doc == nil {
			return tenants.RouteTable{}, errors.New("the control plane has no route table")
		}
		return Verify(doc, verifier)
	}, nil
}

// ask returns the signed table if its version is above after, nil if none is.
func ask(ctx context.Context, client *http.Client, base string, after int64) ([]byte, error) {
	url := strings.TrimSuffix(base, "/") + Path + "?after=" + strconv.FormatInt(after, 10)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for the route table: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking for the route table: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil, nil
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("asking for the route table: status %d", resp.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("reading the route table: %w", err)
	}
	return doc, nil
}
