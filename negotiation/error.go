package negotiation

import "strings"

// Party is one side of a failed negotiation.
type Party struct {
	Node       string   // the name of its node
	Mechanisms []string // what was in play for it, best first; one that it insists on or has answered with stands alone
}

// NoneError says that no mechanism fits: both sides and every reason, on one line.
type NoneError struct {
	Client, Endpoint Party
	Payload          string
	Reasons          []string // as in Decision.Reasons
}

func (e *NoneError) Error() string {
	var b strings.Builder
	b.WriteString("no mechanism fits")
	if e.Payload != "" {
		b.WriteString(" for payload " + e.Payload)
	}
	b.WriteString(": client" + e.Client.text("asks for"))
	b.WriteString("; endpoint" + e.Endpoint.text("offers"))
	for _, r := range e.Reasons {
		b.WriteString("; " + r)
	}
	return b.String()
}

func (p Party) text(verb string) string {
	at := ""
	if p.Node != "" {
		at = " on node " + p.Node
	}
	if len(p.Mechanisms) == 0 {
		return at + " " + verb + " nothing"
	}
	return at + " " + verb + " " + strings.Join(p.Mechanisms, ", ")
}

// none is the error of a search that found no path.
func (n *negotiation) none() *NoneError {
	told := teller{}
	n.others(&told)
	return &NoneError{Client: n.client.party(), Endpoint: n.endpoint.party(), Payload: n.request.Payload, Reasons: told.lines}
}

func (s *side) party() Party {
	p := Party{Node: s.node.GetNode()}
	for _, x := range s.entries {
		if s.only == "" || s.only == x.name {
			p.Mechanisms = append(p.Mechanisms, x.name)
		}
	}
	return p
}
