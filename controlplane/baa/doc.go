// Package baa makes, signs and ends business associate agreements (45 CFR
// 164.504(e), 164.314(a)) and keeps the proof of each.
//
// It owns the agreement's lifecycle, its templates, the canonical text, the PDF
// and the evidence bundle. It trusts the session gate for who acts and from
// where, and the platform key for sealing; it does not trust the stored evidence
// before it has checked the seal again. Every change runs in one transaction with
// its audit row and everything that follows from it: the organization's state,
// the subscription, the gate decision and the job. It never changes what was
// signed, and the database would not let it.
package baa
