package blob

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// s3Store keeps objects in one bucket of an S3 service.
type s3Store struct {
	client *minio.Client
	bucket string
}

const (
	// s3Call bounds a call without a stream whose caller set no deadline.
	s3Call = 10 * time.Second
	// s3Stream bounds a call with a stream whose caller set no deadline.
	s3Stream = 15 * time.Minute
	// s3Largest is what one PUT may hold (S3's limit). One PUT and no multipart
	// upload: an upload that is cut leaves nothing behind, not even parts.
	s3Largest = 5 << 30
)

func openS3(address string, cfg Config) (*s3Store, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("blob: s3 needs an address, as s3:https://host:port/bucket")
	}
	bucket := strings.Trim(u.Path, "/")
	if bucket == "" || strings.Contains(bucket, "/") {
		return nil, errors.New("blob: s3 needs one bucket in its address, as s3:https://host:port/bucket")
	}
	access, err := secretFile(cfg.AccessKeyFile)
	if err != nil {
		return nil, err
	}
	secret, err := secretFile(cfg.SecretKeyFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("blob: certificate authority: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("blob: %s holds no certificate", cfg.CAFile)
	}
	region := cfg.Region
	if region == "" {
		region = "us-east-1"
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(access, secret, ""),
		Secure: true,
		Region: region,
		Transport: &http.Transport{
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   16,
			DisableCompression:    true,
		},
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   3,
		// For the checksum that ends each upload.
		TrailingHeaders: true,
	})
	if err != nil {
		return nil, fmt.Errorf("blob: s3 client: %w", err)
	}
	return &s3Store{client: client, bucket: bucket}, nil
}

func secretFile(name string) (string, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("blob: s3 credentials: %w", err)
	}
	s := strings.TrimSpace(string(raw))
	if s == "" {
		return "", fmt.Errorf("blob: s3 credentials: %s is empty", name)
	}
	return s, nil
}

// CreateBucket makes the bucket that the configuration names, when it is not
// there. For setting up a store; the running product never makes buckets.
func CreateBucket(ctx context.Context, cfg Config) error {
	address, ok := strings.CutPrefix(cfg.URL, "s3:")
	if !ok {
		return errors.New("blob: only an s3 store has a bucket")
	}
	s, err := openS3(address, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, s3Call)
	defer cancel()
	there, err := s.client.BucketExists(ctx, s.bucket)
	if err == nil && !there {
		err = s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{})
	}
	return s3Error("making the bucket", err)
}

// within adds a deadline when the context has none.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// Put implements Store. If-None-Match makes the service itself refuse a taken key.
func (s *s3Store) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	options := minio.PutObjectOptions{}
	options.SetMatchETagExcept("*")
	return s.put(ctx, key, r, size, options)
}

// Replace implements Store.
func (s *s3Store) Replace(ctx context.Context, key string, r io.Reader, size int64) error {
	return s.put(ctx, key, r, size, minio.PutObjectOptions{})
}

func (s *s3Store) put(ctx context.Context, key string, r io.Reader, size int64, options minio.PutObjectOptions) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if size > s3Largest {
		return fmt.Errorf("blob: larger than one upload may be: %w", ErrSize)
	}
	ctx, cancel := within(ctx, s3Stream)
	defer cancel()
	source, err := exact(ctx, r, size)
	if err != nil {
		return err
	}
	options.DisableMultipart = true
	// Sends the body in framed chunks with a checksum at the end. A service that
	// goes by Content-Length alone may keep what arrived when the connection
	// breaks (versitygw 1.8 does); without the last chunk none does.
	options.Checksum = minio.ChecksumCRC32C
	options.ContentType = "application/octet-stream"
	_, err = s.client.PutObject(ctx, s.bucket, key, source, size, options)
	if source.wrong != nil {
		return source.wrong
	}
	return s3Error("writing", err)
}

// Get implements Store.
func (s *s3Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	ctx, cancel := within(ctx, s3Stream)
	body, info, _, err := (&minio.Core{Client: s.client}).GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		cancel()
		return nil, s3Error("reading", err)
	}
	return &watched{ctx: ctx, done: cancel, body: body, left: info.Size}, nil
}

// Delete implements Store.
func (s *s3Store) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	ctx, cancel := within(ctx, s3Call)
	defer cancel()
	err := s3Error("deleting", s.client.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// List implements Store.
func (s *s3Store) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if prefix != "" {
			if err := CheckPrefix(prefix); err != nil {
				yield(Object{}, err)
				return
			}
		}
		ctx, cancel := within(ctx, s3Stream)
		defer cancel()
		for info := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if info.Err != nil {
				yield(Object{}, s3Error("listing", info.Err))
				return
			}
			if strings.HasSuffix(info.Key, "/") {
				continue // a service's own sign for a directory
			}
			if !yield(Object{Key: info.Key, Size: info.Size, ModifiedAt: info.LastModified}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Object{}, s3Error("listing", err))
		}
	}
}

// EnsurePrefix implements Store.
func (s *s3Store) EnsurePrefix(ctx context.Context, prefix string) error {
	return ensurePrefix(ctx, s, prefix)
}

// Health implements Store.
func (s *s3Store) Health(ctx context.Context) error {
	ctx, cancel := within(ctx, s3Call)
	defer cancel()
	there, err := s.client.BucketExists(ctx, s.bucket)
	if err == nil && !there {
		return fmt.Errorf("blob: the bucket does not exist: %w", ErrUnavailable)
	}
	return s3Error("asking for the bucket", err)
}

// s3Error gives an error of the SDK one of the package's errors.
func s3Error(doing string, err error) error {
	if err == nil {
		return nil
	}
	kind := ErrUnavailable
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		switch {
		case answer.Code == minio.NoSuchKey:
			kind = ErrNotFound
		case answer.StatusCode == http.StatusPreconditionFailed, answer.Code == minio.PreconditionFailed:
			kind = ErrExists
		case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
			kind = ErrAuth
		}
	}
	return fmt.Errorf("blob: %s: %w: %w", doing, kind, err)
}
