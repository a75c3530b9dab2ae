package baa

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"

	"github.com/caresphere/caresphere/internal/evidence"
)

const (
	pdfFont   = "go"
	pdfMargin = 22.0 // mm
	bodySize  = 9.5  // points
	lineStep  = 4.6  // mm
)

// renderPDF returns the agreement with both signatures as PDF: the same bytes for
// the same input. Its dates are those of the agreement, and only the glyphs that
// it uses are embedded. The canonical text, not the PDF, is what was signed; the
// PDF says so and repeats its hash.
func renderPDF(document []byte, customer, operator evidence.Signature, expiresAt time.Time) ([]byte, error) {
	glyphs, err := sfnt.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("reading the embedded font: %w", err)
	}
	p := fpdf.New("P", "mm", "Letter", "")
	p.SetCatalogSort(true)
	p.SetCompression(true)
	p.SetCreationDate(operator.SignedAt)
	p.SetModificationDate(operator.SignedAt)
	p.SetProducer("CareSphere", true)
	p.SetTitle("Business Associate Agreement "+operator.AgreementID.String(), true)
	p.SetLang("en-US")
	p.AddUTF8FontFromBytes(pdfFont, "", goregular.TTF)
	p.AddUTF8FontFromBytes(pdfFont, "B", gobold.TTF)
	p.SetMargins(pdfMargin, pdfMargin, pdfMargin)
	p.SetAutoPageBreak(true, 20)
	p.AliasNbPages("")
	p.SetFooterFunc(func() {
		p.SetY(-14)
		p.SetFont(pdfFont, "", 7)
		p.SetTextColor(90, 90, 90)
		p.CellFormat(0, 4, "Agreement "+operator.AgreementID.String()+"  ·  SHA-256 of the text "+operator.DocumentSHA256[:16]+
			"…  ·  page "+fmt.Sprint(p.PageNo()), "", 0, "C", false, 0, "")
		p.SetTextColor(0, 0, 0)
	})
	w := pdfWriter{p, glyphs}
	p.AddPage()
	for _, b := range blocks(document) {
		w.block(b)
	}
	w.signaturePage(customer, operator, expiresAt)
	var out bytes.Buffer
	if err := p.Output(&out); err != nil {
		return nil, fmt.Errorf("writing the PDF: %w", err)
	}
	return out.Bytes(), nil
}

type pdfWriter struct {
	*fpdf.Fpdf
	glyphs *sfnt.Font
}

// printable replaces characters that the font cannot draw by their code point:
// visible and exact beats an empty box.
func (w pdfWriter) printable(s string) string {
	var b strings.Builder
	var buf sfnt.Buffer
	for _, r := range s {
		if i, err := w.glyphs.GlyphIndex(&buf, r); err == nil && i != 0 && r <= 0xFFFF {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "[U+%04X]", r)
	}
	return b.String()
}

func (w pdfWriter) block(b block) {
	text := w.printable(b.text)
	switch b.level {
	case 1:
		w.SetFont(pdfFont, "B", 17)
		w.MultiCell(0, 8, text, "", "L", false)
		w.Ln(2)
	case 2:
		w.Ln(2)
		if w.GetY() > 245 { // no heading at the foot of a page
			w.AddPage()
		}
		w.SetFont(pdfFont, "B", 11)
		w.MultiCell(0, 6, text, "", "L", false)
		w.Ln(1)
	default:
		w.SetFont(pdfFont, "", bodySize)
		w.MultiCell(0, lineStep, text, "", "L", false)
		w.Ln(1.8)
	}
}

func (w pdfWriter) signaturePage(customer, operator evidence.Signature, expiresAt time.Time) {
	w.AddPage()
	w.block(block{1, "Signatures"})
	w.block(block{0, "This agreement was signed electronically. The parties signed the canonical text whose SHA-256 hash is " +
		customer.DocumentSHA256 + " (template " + customer.TemplateVersion + "). The evidence bundle of this agreement holds that text, " +
		"both sealed signatures and this PDF, and verifies offline."})
	w.block(block{0, "In force from " + stamp(operator.SignedAt) + " until " + stamp(expiresAt) + "."})
	w.signature("For the covered entity", customer)
	w.signature("For the business associate", operator)
}

func (w pdfWriter) signature(title string, s evidence.Signature) {
	w.Ln(2)
	w.block(block{2, title})
	w.SetFont(pdfFont, "B", 14)
	w.MultiCell(0, 8, w.printable(s.Signer.Name), "", "L", false)
	for _, row := range [][2]string{
		{"Title", s.Signer.Title},
		{"Authority", s.Signer.Authority},
		{"Signed at", stamp(s.SignedAt)},
		{"Account", s.Signer.Email + " (" + s.Signer.IdentityID.String() + ")"},
		{"Consent", s.Consent.Text},
		{"Intent", s.Intent.Text},
		{"Authentication", strings.Join(s.Authentication.Methods, ", ") + "; second factor at " + stamp(s.Authentication.SecondFactorAt)},
		{"Session", s.Authentication.SessionID.String()},
		{"From", s.IP + "; " + s.UserAgent},
	} {
		w.SetFont(pdfFont, "B", 8)
		y := w.GetY()
		w.CellFormat(30, 4.2, row[0], "", 0, "L", false, 0, "")
		w.SetXY(pdfMargin+30, y)
		w.SetFont(pdfFont, "", 8)
		w.MultiCell(0, 4.2, w.printable(row[1]), "", "L", false)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }
