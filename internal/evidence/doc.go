// Package evidence is the proof that an agreement was signed: what is recorded of
// each signature, how both signatures and the document are put into one file, and
// how that file is checked years later by somebody who trusts nothing but a
// public key.
//
// It owns the format and the verifier. The verifier reads bytes and a key, and
// nothing else: no database, no network, no clock. It trusts no length, name or
// hash before it has computed it itself. The package never makes a decision about
// who may sign: it records what the caller established.
//
// Each signer's evidence is a signed note (C2SP signed-note, Ed25519) made at the
// moment of signing; the manifest, a signed note as well, binds both, the document
// and the PDF together. The framing around them is not signed; it is strict
// instead: there is exactly one way to write a bundle, and every other is refused.
package evidence
