package outbox_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/outbox"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

func open(t *testing.T) (*outbox.Box, *store.Queries, *pgxpool.Pool) {
	t.Helper()
	db := testkit.ControlDB(t)
	pool, err := pg.Open(context.Background(), db.DSN("controlplane"), pg.Options{})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	super, err := pgxpool.New(context.Background(), db.Superuser(t))
	require.NoError(t, err)
	t.Cleanup(super.Close)
	return outbox.New(pool), store.New(pool), super
}

func put(t *testing.T, q *store.Queries, to string) tenants.ID {
	t.Helper()
	id := tenants.NewID()
	require.NoError(t, q.InsertMail(context.Background(), store.InsertMailParams{ID: id, Recipient: to, Template: "recovery", Subject: "s", Body: "code 123456"}))
	return id
}

func TestTwoSendersNeverHoldTheSameLetter(t *testing.T) {
	b, q, _ := open(t)
	const letters = 20
	for range letters {
		put(t, q, "dana@example.org")
	}
	var mu sync.Mutex
	claimed := map[tenants.ID]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				m, ok, err := b.Claim(context.Background())
				if !assert.NoError(t, err) || !ok {
					return
				}
				mu.Lock()
				claimed[m.ID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.Len(t, claimed, letters)
	for id, n := range claimed {
		assert.Equal(t, 1, n, id)
	}
}

func TestLetterOfACrashedSenderComesAgainAndASentOneIsForgotten(t *testing.T) {
	b, q, super := open(t)
	ctx := context.Background()
	id := put(t, q, "dana@example.org")
	m, ok, err := b.Claim(ctx)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "code 123456", m.Body)
	_, ok, err = b.Claim(ctx)
	require.NoError(t, err)
	assert.False(t, ok, "not while it is held")

	_, err = super.Exec(ctx, "UPDATE mail SET next_at = now()")
	require.NoError(t, err)
	_, ok, err = b.Claim(ctx)
	require.NoError(t, err)
	require.True(t, ok, "once its time has come")
	require.NoError(t, b.Failed(ctx, id, "refused"))

	_, err = super.Exec(ctx, "UPDATE mail SET next_at = now()")
	require.NoError(t, err)
	_, ok, err = b.Claim(ctx)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, b.Sent(ctx, id))
	_, err = super.Exec(ctx, "UPDATE mail SET next_at = now()")
	require.NoError(t, err)
	_, ok, err = b.Claim(ctx)
	require.NoError(t, err)
	assert.False(t, ok, "sent for good")
	list, err := b.List(ctx, "dana@example.org")
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Empty(t, list[0].Body, "the code is not kept")
	list, err = b.List(ctx, "nobody@example.org")
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestLetterThatNobodyTakesIsGivenUp(t *testing.T) {
	b, q, super := open(t)
	ctx := context.Background()
	put(t, q, "dana@example.org")
	tries := 0
	for ; tries < 100; tries++ {
		_, err := super.Exec(ctx, "UPDATE mail SET next_at = now()")
		require.NoError(t, err)
		_, ok, err := b.Claim(ctx)
		require.NoError(t, err)
		if !ok {
			break
		}
	}
	assert.Equal(t, 12, tries)
}
