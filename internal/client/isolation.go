package client

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"
)

// IsolationRun is a proof of isolation or a repair; operators' origin.
type IsolationRun struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Tenant   string `json:"tenant"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	OK       bool   `json:"ok"`
	Proven   int    `json:"proven"`
	Failed   int    `json:"failed"`
	Unproven int    `json:"unproven"`
}

// IsolationFinding is one difference.
type IsolationFinding struct {
	Layer    string `json:"layer"`
	Object   string `json:"object"`
	Problem  string `json:"problem"`
	Declared string `json:"declared,omitempty"`
	Found    string `json:"found,omitempty"`
}

// IsolationRepair is what a plan or a repair found and did.
type IsolationRepair struct {
	IsolationRun
	Result *struct {
		Slug        string             `json:"slug"`
		Differences []IsolationFinding `json:"differences"`
		Statements  []string           `json:"statements"`
		Steps       []string           `json:"steps"`
		Refused     []string           `json:"refused"`
		Left        []IsolationFinding `json:"left"`
		Applied     bool               `json:"applied"`
		Proof       *struct {
			Verdict  string             `json:"verdict"`
			Findings []IsolationFinding `json:"findings"`
			Unproven []string           `json:"unproven"`
		} `json:"proof"`
	} `json:"result"`
}

// isolationPoll is how often a run is asked about.
const isolationPoll = 200 * time.Millisecond

// ProveIsolation asks for a proof, of one tenant or with "" of all, waits for it
// and returns its signed report. The context bounds the wait.
func (c *Client) ProveIsolation(ctx context.Context, tenant, cell string) ([]byte, error) {
	body := map[string]string{}
	if tenant != "" {
		body["tenant"] = tenant
	}
	if cell != "" {
		body["cell"] = cell
	}
	run, err := fetch[IsolationRun](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/isolation/proofs", Body: body})
	if err != nil {
		return nil, err
	}
	path := "/api/v1/isolation/proofs/" + run.ID
	if _, err := c.isolationEnd(ctx, path); err != nil {
		return nil, err
	}
	var report bytes.Buffer
	if err := c.Download(ctx, path+"/report", &report); err != nil {
		return nil, err
	}
	return report.Bytes(), nil
}

// RepairIsolation shows how a tenant differs from what is declared, and with apply
// has it mended; it waits for the result.
func (c *Client) RepairIsolation(ctx context.Context, tenant string, apply bool) (IsolationRepair, error) {
	run, err := fetch[IsolationRun](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/isolation/repairs",
		Body: map[string]any{"tenant": tenant, "apply": apply}})
	if err != nil {
		return IsolationRepair{}, err
	}
	return c.isolationEnd(ctx, "/api/v1/isolation/repairs/"+run.ID)
}

func (c *Client) isolationEnd(ctx context.Context, path string) (IsolationRepair, error) {
	tick := time.NewTicker(isolationPoll)
	defer tick.Stop()
	for {
		run, err := fetch[IsolationRepair](ctx, c, Request{Method: http.MethodGet, Path: path})
		switch {
		case err != nil:
			return run, err
		case run.State == "failed":
			return run, fmt.Errorf("the run failed: %s", run.Reason)
		case run.State == "done":
			return run, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return run, fmt.Errorf("waiting for the provisioner: %w", ctx.Err())
		}
	}
}
