//! The bytes of what a life of events keeps: requests, resources, what requesters had, and the time.

use super::market::Standing;
use super::rows::Node;
use super::score::{Request, Resource};
use super::views::Reason;

/// One entry, with the market it is of.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A request as it is scored, how it stands, and its past.
    Request(Box<Node<Request>>, Standing, Past),
    /// A resource and its price.
    Resource(Box<Node<Resource>>, f64),
    /// How often a requester has been served.
    Requester(Box<[u8]>, i64),
    /// The event time of the last event.
    Time(i64),
}

/// What of a request's past counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Past {
    /// How often its requester had been served when it came.
    pub served: f64,
    /// Whether it has had a resource.
    pub was_served: bool,
}

/// The key of an entry within its market.
pub fn key_of(entry: Tag, key: &[u8]) -> Vec<u8> {
    let mut out = vec![entry as u8];
    out.extend_from_slice(key);
    out
}

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// A request.
    Request = b'q',
    /// A resource.
    Resource = b'r',
    /// A requester.
    Requester = b'u',
    /// The time.
    Time = b't',
}

/// The bytes of an entry. They begin with the length of the market's bytes, by which a stored key is parted.
pub fn encode(market: &[u8], entry: &Entry) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.int(market.len() as i64);
    match entry {
        Entry::Request(node, standing, past) => {
            let request = &node.node;
            out.int(request.take);
            out.floats(&[request.demand, request.budget, request.fair]);
            out.floats(&request.place);
            out.floats(&[request.reliability_min, request.availability_min, request.latency_max]);
            out.bytes(&request.requester);
            out.floats(&[past.served, standing.payment]);
            out.int(past.was_served.into());
            out.int(match standing.reason {
                None => 0,
                Some(Reason::Waiting) => 1,
                Some(_) => 2,
            });
            out.int(standing.resource.is_some().into());
            out.bytes(standing.resource.as_deref().unwrap_or_default());
        }
        Entry::Resource(node, price) => {
            let resource = &node.node;
            out.int(resource.room);
            out.floats(&[resource.capacity, resource.cost, resource.reliability]);
            out.floats(&[resource.availability, resource.energy]);
            out.floats(&resource.place);
            out.floats(&[*price]);
        }
        Entry::Requester(_, count) => out.int(*count),
        Entry::Time(at) => out.int(*at),
    }
    out.0
}

/// An entry from its stored key and bytes, with its market. Panics on other bytes: the store's checksums make damage an
/// error found earlier.
pub fn decode(key: &[u8], value: &[u8]) -> (Box<[u8]>, Entry) {
    let mut bytes = Reader(value);
    let (market, rest) = key.split_at(bytes.int() as usize);
    let (tag, key) = rest.split_first().expect("a tag");
    let key: Box<[u8]> = key.into();
    let market: Box<[u8]> = market.into();
    let entry = match *tag {
        tag if tag == Tag::Request as u8 => {
            let take = bytes.int();
            let [demand, budget, fair] = bytes.floats();
            let place = bytes.floats();
            let [reliability_min, availability_min, latency_max] = bytes.floats();
            let requester = bytes.bytes();
            let [served, payment] = bytes.floats();
            let was_served = bytes.int() == 1;
            let reason = [None, Some(Reason::Waiting), Some(Reason::ResourceLeft)][bytes.int() as usize];
            let has_resource = bytes.int() == 1;
            let resource = Some(bytes.bytes()).filter(|_| has_resource);
            let request = Request {
                demand,
                take,
                budget,
                fair,
                place,
                reliability_min,
                availability_min,
                latency_max,
                requester,
            };
            let node = Node { key, market: market.clone(), node: request, priority: 0.0 };
            Entry::Request(Box::new(node), Standing { resource, payment, reason }, Past { served, was_served })
        }
        tag if tag == Tag::Resource as u8 => {
            let room = bytes.int();
            let [capacity, cost, reliability] = bytes.floats();
            let [availability, energy] = bytes.floats();
            let place = bytes.floats();
            let [price] = bytes.floats();
            let resource = Resource { capacity, room, cost, reliability, availability, energy, place };
            Entry::Resource(Box::new(Node { key, market: market.clone(), node: resource, priority: 0.0 }), price)
        }
        tag if tag == Tag::Requester as u8 => Entry::Requester(key, bytes.int()),
        _ => Entry::Time(bytes.int()),
    };
    (market, entry)
}

struct Writer(Vec<u8>);

impl Writer {
    fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn floats(&mut self, values: &[f64]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_bits().to_le_bytes()));
    }

    fn bytes(&mut self, value: &[u8]) {
        self.int(value.len() as i64);
        self.0.extend_from_slice(value);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn int(&mut self) -> i64 {
        let (value, rest) = self.0.split_at(8);
        self.0 = rest;
        i64::from_le_bytes(value.try_into().expect("eight bytes"))
    }

    fn floats<const N: usize>(&mut self) -> [f64; N] {
        std::array::from_fn(|_| f64::from_bits(self.int() as u64))
    }

    fn bytes(&mut self) -> Box<[u8]> {
        let len = self.int() as usize;
        let (value, rest) = self.0.split_at(len);
        self.0 = rest;
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went() {
        let node = |key: &[u8]| Node {
            key: key.into(),
            market: b"m\0"[..].into(),
            node: Request {
                demand: 0.5,
                take: 7,
                budget: -0.0,
                fair: 1e300,
                place: [1.0, 2.0, 3.0],
                reliability_min: 0.1,
                availability_min: 0.2,
                latency_max: f64::INFINITY,
                requester: b"who"[..].into(),
            },
            priority: 0.0,
        };
        let standing = |reason| Standing { resource: Some(Box::default()), payment: 1.5, reason };
        let resource = Resource {
            capacity: 1.0,
            room: 9,
            cost: 2.0,
            reliability: 0.3,
            availability: 0.4,
            energy: 0.5,
            place: [0.0; 3],
        };
        let resource = Node { key: b"r"[..].into(), market: b"m\0"[..].into(), node: resource, priority: 0.0 };
        let past = Past { served: 2.0, was_served: true };
        let entries = [
            (Tag::Request, b"k".to_vec(), Entry::Request(Box::new(node(b"k")), standing(Some(Reason::Waiting)), past)),
            (Tag::Request, Vec::new(), Entry::Request(Box::new(node(b"")), standing(None), Past::default())),
            (Tag::Resource, b"r".to_vec(), Entry::Resource(Box::new(resource), 4.25)),
            (Tag::Requester, b"u".to_vec(), Entry::Requester(b"u"[..].into(), -3)),
            (Tag::Time, Vec::new(), Entry::Time(i64::MIN)),
        ];
        for (tag, key, entry) in entries {
            let stored = [b"m\0".to_vec(), key_of(tag, &key)].concat();
            let (market, back) = decode(&stored, &encode(b"m\0", &entry));
            assert_eq!((&*market, back), (&b"m\0"[..], entry));
        }
    }
}
