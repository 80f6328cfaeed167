package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// The cluster's names: services, headless services and their pods, as the Kubernetes DNS specification has them (A
// records of IPv4 only, nothing from outside of the cluster), and the host.
type names struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	hosts    map[string]net.IP
}

const zone = ".svc.cluster.local"

func dns(args []string) {
	flags := flag.NewFlagSet("cluster-dns", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:53", "UDP and TCP address")
	ready := flags.String("ready", "", "HTTP address that answers once all names are known")
	config := flags.String("kubeconfig", "", "kubeconfig")
	hosts := flags.String("hosts", "", "name=ip,name=ip")
	flags.Parse(args)
	n := &names{hosts: map[string]net.IP{}}
	for _, host := range strings.Split(*hosts, ",") {
		if name, ip, ok := strings.Cut(host, "="); ok {
			n.hosts[name] = net.ParseIP(ip).To4()
		}
	}
	n.watch(*config)
	packets, err := net.ListenPacket("udp4", *listen)
	check(err)
	streams, err := net.Listen("tcp4", *listen)
	check(err)
	go n.servePackets(packets)
	go n.serveStreams(streams)
	check(http.ListenAndServe(*ready, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster-dns:", err)
		os.Exit(1)
	}
}

func (n *names) watch(config string) {
	rest, err := clientcmd.BuildConfigFromFlags("", config)
	check(err)
	client, err := kubernetes.NewForConfig(rest)
	check(err)
	factory := informers.NewSharedInformerFactory(client, 0)
	n.services = factory.Core().V1().Services().Lister()
	n.slices = factory.Discovery().V1().EndpointSlices().Lister()
	factory.Core().V1().Services().Informer()
	factory.Discovery().V1().EndpointSlices().Informer()
	factory.Start(context.Background().Done())
	factory.WaitForCacheSync(context.Background().Done())
}

func (n *names) servePackets(packets net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		length, from, err := packets.ReadFrom(buffer)
		if err != nil {
			continue
		}
		if answer := n.answer(buffer[:length], 512); answer != nil {
			packets.WriteTo(answer, from)
		}
	}
}

func (n *names) serveStreams(streams net.Listener) {
	for {
		stream, err := streams.Accept()
		if err != nil {
			continue
		}
		go func() {
			defer stream.Close()
			stream.SetDeadline(time.Now().Add(5 * time.Second))
			for {
				var length [2]byte
				if _, err := io.ReadFull(stream, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(stream, query); err != nil {
					return
				}
				answer := n.answer(query, 65535)
				stream.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

func (n *names) answer(query []byte, limit int) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil || header.Response {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	known, addresses := n.lookup(strings.ToLower(strings.TrimSuffix(question.Name.String(), ".")))
	header = dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true}
	if !known {
		header.RCode = dnsmessage.RCodeNameError
	}
	message := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{question}}
	for _, address := range addresses {
		if question.Type == dnsmessage.TypeA {
			message.Answers = append(message.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte(address)},
			})
		}
	}
	packed, err := message.Pack()
	if err == nil && len(packed) > limit {
		message.Answers, message.Truncated = nil, true
		packed, err = message.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}

// Whether there is the name, and its addresses.
func (n *names) lookup(name string) (bool, []net.IP) {
	if ip, known := n.hosts[name]; known {
		return true, []net.IP{ip}
	}
	rest, ours := strings.CutSuffix(name, zone)
	if !ours {
		return name == "cluster.local" || name == zone[1:], nil
	}
	parts := strings.Split(rest, ".")
	if len(parts) < 2 {
		return true, nil
	}
	namespace, service, sub := parts[len(parts)-1], parts[len(parts)-2], parts[:len(parts)-2]
	found, err := n.services.Services(namespace).Get(service)
	if err != nil {
		return false, nil
	}
	if found.Spec.ClusterIP != core.ClusterIPNone {
		return len(sub) == 0, []net.IP{net.ParseIP(found.Spec.ClusterIP).To4()}
	}
	addresses := n.endpoints(namespace, service, strings.Join(sub, "."))
	return len(addresses) > 0 || len(sub) == 0, addresses
}

// Addresses of a headless service's pods: of all, or of the one with this host name.
func (n *names) endpoints(namespace, service, pod string) []net.IP {
	slices, err := n.slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: service}))
	if err != nil {
		return nil
	}
	var found []net.IP
	for _, slice := range slices {
		if slice.AddressType != discovery.AddressTypeIPv4 {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
				continue
			}
			for _, address := range endpoint.Addresses {
				host := strings.ReplaceAll(address, ".", "-")
				if endpoint.Hostname != nil && *endpoint.Hostname != "" {
					host = *endpoint.Hostname
				}
				if pod == "" || pod == host {
					found = append(found, net.ParseIP(address).To4())
				}
			}
		}
	}
	return found
}
