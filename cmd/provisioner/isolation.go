package main

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/obs"
)

// isolationSettings shape the proofs of isolation.
type isolationSettings struct {
	// Key is the file of the key that signs reports.
	Key string `env:"CARESPHERE_ISOLATION_KEY" required:"true"`
	// Every is the pause between scheduled proofs of the whole cell.
	Every time.Duration `env:"CARESPHERE_ISOLATION_EVERY" default:"1h"`
	// Part is after how long a proof of the whole cell lets others have their turn.
	Part time.Duration `env:"CARESPHERE_ISOLATION_PART" default:"10m"`
	// Peers is against how many others a tenant is tried in one proof.
	Peers int `env:"CARESPHERE_ISOLATION_PEERS" default:"12"`
	// AlertMail gets a letter about each quarantine; none if it is empty.
	AlertMail string `env:"CARESPHERE_ALERT_MAIL"`
}

func newProver(s settings, db pools, keys kms.KMS, objects blob.Store, o *obs.Obs, p *provisioning.Provisioner) (*isolation.Prover, error) {
	key, err := secretFile(s.Isolation.Key)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("reading the isolation reports' key: %w", err)
	}
	public, err := httpx.ClientTLS(s.TLSCA, "", "")
	if err != nil {
		return nil, err
	}
	inserter, err := provisioning.Inserter(db.control, o.Log)
	if err != nil {
		return nil, fmt.Errorf("making the job inserter: %w", err)
	}
	return isolation.New(isolation.Config{
		Control: db.control, Cell: db.owner, CellDSN: s.OwnerDSN, CellID: s.CellID, Keys: keys, Objects: objects,
		Gatekeeper: placement.NewGates(inserter, nil), Provisioner: p, Authority: p.Authority, ProbeSigner: p.ProbeSigner,
		PublicOrigin: s.PublicOrigin, ProbeTLS: public, Signer: signer, Every: s.Isolation.Every, Part: s.Isolation.Part, Peers: s.Isolation.Peers,
		AlertMail: s.Isolation.AlertMail, Metrics: o.Metrics, Log: o.Log,
	})
}
