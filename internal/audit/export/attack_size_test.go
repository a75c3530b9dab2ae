package export_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// size is how many of the line operations on an export of 1,000 entries are tried: in
// the nightly variant each on every line; else a sample that is the same in every run,
// drawn by one fixed seed, with the first and the last always among them.
func size(whole, sample int, r *rand.Rand) []int {
	if prove.Nightly() || sample >= whole {
		return every(whole)
	}
	at := append(make([]int, 0, sample), 0, whole-1)
	for len(at) < sample {
		at = append(at, 1+r.IntN(whole-2))
	}
	return at
}

const (
	thousand    = 1000
	sampleLines = 8
	// everyFlip is how many flips there are to one that only the whole file may name.
	everyFlip = 5000
)

// parallel calls try for each i on every core, with a copy of the file that it may damage.
func parallel(file []byte, at []int, try func(damaged []byte, i int) error) error {
	var work sync.WaitGroup
	cpus := runtime.GOMAXPROCS(0)
	failed := make(chan error, cpus)
	for worker := range cpus {
		work.Go(func() {
			damaged := bytes.Clone(file)
			for n := worker; n < len(at); n += cpus {
				if err := try(damaged, at[n]); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	work.Wait()
	close(failed)
	return <-failed
}

// numbers returns the line of each byte, from 1.
func numbers(file []byte) []int {
	number := make([]int, len(file))
	n := 1
	for i, c := range file {
		number[i] = n
		if c == '\n' {
			n++
		}
	}
	return number
}

// every returns the numbers from 0 to n-1.
func every(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// flip flips one bit of each byte, and wants each found within a line.
func flip(f *fixture, file []byte) error {
	number := numbers(file)
	return parallel(file, every(len(file)), func(damaged []byte, i int) error {
		damaged[i] ^= 1 << (i % 8)
		defer func() { damaged[i] = file[i] }()
		return named(f, damaged, number[i], fmt.Sprint("flip byte ", i))
	})
}

// steps are the states of a verifier before each line of a file.
type steps struct {
	all    [][]byte
	begins []int
	before []*verify.Steps
}

func inSteps(f *fixture, file []byte) (s steps, err error) {
	v, at := verify.Begin(f.keys), 0
	for _, line := range lines(file) {
		before, err := v.Clone()
		if err != nil {
			return s, err
		}
		s.all, s.begins, s.before = append(s.all, line), append(s.begins, at), append(s.before, before)
		v.Line(line)
		at += len(line)
	}
	return s, nil
}

// finds tells whether something wrong is named within a line of the n-th, from 0, by the
// time that it and the next are read.
func (s *steps) finds(damaged []byte, n int) (bool, error) {
	v, err := s.before[n].Clone()
	if err != nil {
		return false, err
	}
	last := min(n+1, len(s.all)-1)
	for _, line := range lines(damaged[s.begins[n] : s.begins[last]+len(s.all[last])]) {
		if v.Line(line); near(v.Problems(), n+1) {
			return true, nil
		}
	}
	return false, nil
}

// flipInSteps is flip without reading what stands before the line anew for each of its
// bytes, nor what stands after the line that names it: what is found so far is not taken
// back. What no step names is judged by the whole file, and so is one in everyFlip.
func flipInSteps(f *fixture, file []byte) error {
	s, err := inSteps(f, file)
	if err != nil {
		return err
	}
	for n := range s.all {
		found, err := s.finds(file, n)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("line %d is whole, and a step names it", n+1)
		}
	}
	number := numbers(file)
	return parallel(file, every(len(file)), func(damaged []byte, i int) error {
		damaged[i] ^= 1 << (i % 8)
		defer func() { damaged[i] = file[i] }()
		if i%everyFlip != 0 {
			if found, err := s.finds(damaged, number[i]-1); err != nil || found {
				return err
			}
		}
		return named(f, damaged, number[i], fmt.Sprint("flip byte ", i))
	})
}

// named is nil when the verifier finds something wrong within a line of where it is.
func named(f *fixture, damaged []byte, line int, what string) error {
	r, err := verify.File(bytes.NewReader(damaged), f.keys)
	if err != nil || r.OK || !near(r.Problems, line) {
		return fmt.Errorf("%s, line %d: %w %v", what, line, err, r.Problems)
	}
	return nil
}

// stated adds what was tried, all of it found, and the twin: a file that nothing was
// done to, for which the same judgement must fail.
func stated(t *testing.T, figure *prove.Figure, f *fixture, file []byte, tried int) {
	t.Helper()
	prove.State(t, figure, tried, 0)
	require.Error(t, named(f, file, 3, "nothing"), "the judgement fails for a file that is whole")
	prove.Plant(t, figure, 1, 1)
}

// Every byte of a small export, with every kind of line in it.
func TestEveryFlippedByteIsFoundAndItsLineNamed(t *testing.T) {
	f, files := attack(t, 6)
	for format, file := range files {
		require.NoError(t, flip(f, file), format)
		stated(t, prove.AuditFlippedBytes, f, file, len(file))
	}
}

func TestAThousandEntriesUnderAttack(t *testing.T) {
	f, files := attack(t, thousand)
	r := rand.New(rand.NewPCG(1, 1000))
	for format, file := range files {
		require.NoError(t, flipInSteps(f, file), format)
		stated(t, prove.AuditFlippedBytes, f, file, len(file))
		all, operated := lines(file), 0
		operations := map[string]func(i int) (damaged [][]byte, where int){
			"delete":    func(i int) ([][]byte, int) { return slices.Concat(all[:i:i], all[i+1:]), i + 1 },
			"duplicate": func(i int) ([][]byte, int) { return slices.Concat(all[:i+1:i+1], all[i:]), i + 2 },
			"insert": func(i int) ([][]byte, int) {
				forged := bytes.Replace(all[i], []byte(`client`), []byte(`patient`), 1)
				if bytes.Equal(forged, all[i]) {
					forged = append([]byte("x"), all[i]...)
				}
				return slices.Concat(all[:i:i], [][]byte{forged}, all[i:]), i + 1
			},
			"swap": func(i int) ([][]byte, int) {
				i = min(i, len(all)-2)
				return slices.Concat(all[:i:i], [][]byte{all[i+1], all[i]}, all[i+2:]), i + 1
			},
			"cut the tail from": func(i int) ([][]byte, int) { i = max(i, 1); return all[:i:i], i },
			"cut inside": func(i int) ([][]byte, int) {
				return slices.Concat(all[:i:i], [][]byte{all[i][:len(all[i])/2]}), i + 1
			},
		}
		for name, damage := range operations {
			at := size(len(all), sampleLines, r)
			operated += len(at)
			require.NoError(t, parallel(nil, at, func(_ []byte, i int) error {
				damaged, where := damage(i)
				return named(f, slices.Concat(damaged...), where, name)
			}), format)
		}
		stated(t, prove.AuditLines, f, file, operated)
	}
}

// resealed builds the log's tree anew with the same key, as whoever stole it and
// is the superuser can, and forgets the anchors.
func resealed(t *testing.T, f *fixture) {
	for _, table := range []string{"audit_leaf", "audit_hash", "audit_checkpoint"} {
		tamper(t, f, "TRUNCATE "+f.Log().Table(table), table)
	}
	f.sealer.Anchor = sealer.PostgresAnchor{Pool: audittest.Pool(t, "provisioner", audittest.Control(t))}
}

// Whoever has every key and every right can make a log that is whole in itself: what
// an auditor kept from before shows that it is another one.
func TestAForkSignedWithTheRightKeyIsFoundByWhatWasKept(t *testing.T) {
	f := setup(t)
	f.write(t, 90)
	kept := map[export.Format]verify.Earlier{}
	for _, format := range formats {
		e, err := verify.ReadEarlier(bytes.NewReader(f.export(t, format, audit.Filter{})), f.keys)
		require.NoError(t, err)
		require.EqualValues(t, 90, e.Size())
		kept[format] = e
	}
	check := func(want ...verify.Kind) {
		t.Helper()
		for _, format := range formats {
			file := f.export(t, format, audit.Filter{})
			require.Empty(t, f.verify(t, file).Problems, "alone it is whole")
			require.Equal(t, want, kinds(f.verify(t, file, verify.Extends(kept[format]))))
			if len(want) > 0 {
				prove.State(t, prove.AuditForged, 1, 0)
			}
		}
	}
	check() // the same log
	f.write(t, 120)
	check() // and its continuation, past blocks and in the midst of one
	filtered := f.export(t, export.JSONLines, audit.Filter{Outcome: audit.OutcomeDenied})
	require.Empty(t, f.verify(t, filtered, verify.Extends(kept[export.JSONLines])).Problems, "which shows the leaf hashes of the block in question")
	nothing := f.export(t, export.JSONLines, audit.Filter{Action: "client.never"})
	require.Contains(t, []int{0, 1}, len(f.verify(t, nothing, verify.Extends(kept[export.JSONLines])).Problems))

	tamper(t, f, "UPDATE "+f.Log().Table("audit_entry")+" SET action = 'client.update' WHERE seq = 12", "audit_entry")
	resealed(t, f)
	check(verify.Forked)
	tamper(t, f, "DELETE FROM "+f.Log().Table("audit_entry")+" WHERE seq > 80", "audit_entry")
	resealed(t, f)
	check(verify.Truncated)

	// Another log by the same keys is no continuation either.
	other := setup(t)
	other.keys, other.sealer.Signer, other.sealer.Verifier, other.signer = f.keys, f.sealer.Signer, f.sealer.Verifier, f.signer
	other.write(t, 90)
	for _, format := range formats {
		file := other.export(t, format, audit.Filter{})
		require.Equal(t, []verify.Kind{verify.WrongLog}, kinds(f.verify(t, file, verify.Extends(kept[format]))))
		prove.State(t, prove.AuditForged, 1, 0)
		// What was kept is what finds it: without, the other log is whole.
		require.True(t, f.verify(t, file).OK)
		prove.Plant(t, prove.AuditForged, 1, 1)
	}
}

func TestAnEarlierCheckpointMustBeSigned(t *testing.T) {
	f, files := attack(t, 5)
	other := setup(t)
	for _, file := range files {
		_, err := verify.ReadEarlier(bytes.NewReader(file), other.keys)
		require.ErrorContains(t, err, "not among the given ones")
	}
	for _, bad := range []string{"", "nonsense\n", "{}\n", "\"kind\"\n\n"} {
		_, err := verify.ReadEarlier(bytes.NewReader([]byte(bad)), f.keys)
		require.Error(t, err)
	}
}
