//! Routes by path prefix.

use std::sync::Arc;

use smallvec::SmallVec;

use super::list::List;
use super::names::Vacant;
use super::{Edit, Lists};
use crate::keys::PATH_LEN_MAX;

/// Routes by path prefix: a radix tree. Routes for any path are those of the empty prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct PathTree(Node);

/// The node of a text, which is that of its parent, the byte that leads here, and `edge`. All but the root have routes
/// or several children.
#[derive(Clone, Debug, Default)]
struct Node {
    edge: Text,
    routes: List,
    /// By their bytes, ascending.
    children: Box<[Child]>,
}

#[derive(Clone, Debug)]
struct Child {
    byte: u8,
    node: Arc<Node>,
}

type Text = SmallVec<[u8; 16]>;

/// So many children are rather looked through than searched.
const FEW: usize = 16;

impl PathTree {
    /// Shows the routes of all texts that are prefixes of the path.
    #[inline]
    pub(super) fn lookup<'i>(&'i self, path: &[u8], found: &mut Lists<'i>) {
        let (mut node, mut rest) = (&self.0, path);
        loop {
            let (edge, routes) = (&*node.edge, &*node.routes);
            if !edge.is_empty() {
                let Some(after) = rest.strip_prefix(edge) else { return };
                rest = after;
            }
            if !routes.is_empty() {
                found.push(routes);
            }
            let Some((byte, after)) = rest.split_first() else { return };
            let Some(child) = node.child(*byte) else { return };
            (node, rest) = (child, after);
        }
    }

    /// Adds or takes out a route at each of its paths.
    pub(super) fn edit(&mut self, edit: Edit<'_>) {
        if edit.paths.is_empty() {
            return self.edit_at(b"", &edit);
        }
        for path in edit.paths {
            self.edit_at(path.get(..PATH_LEN_MAX).unwrap_or(path), &edit);
        }
    }

    fn edit_at(&mut self, text: &[u8], edit: &Edit<'_>) {
        if edit.insert {
            if self.is_vacant() {
                self.0.edge = Text::from_slice(text);
            }
            self.0.insert(text, edit);
        } else {
            self.0.remove(text, edit);
        }
    }
}

impl Vacant for PathTree {
    fn is_vacant(&self) -> bool {
        self.0.routes.is_empty() && self.0.children.is_empty()
    }
}

impl Node {
    #[inline]
    fn child(&self, byte: u8) -> Option<&Node> {
        let child = if self.children.len() <= FEW {
            self.children.iter().find(|child| child.byte == byte)
        } else {
            self.place(byte).ok().and_then(|at| self.children.get(at))
        };
        child.map(|child| &*child.node)
    }

    /// Where the child of a byte is or would be.
    fn place(&self, byte: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&byte, |child| child.byte)
    }

    fn insert(&mut self, text: &[u8], edit: &Edit<'_>) {
        let common = self.edge.iter().zip(text).take_while(|(a, b)| a == b).count();
        self.split(common);
        let Some((byte, rest)) = text.get(common..).and_then(<[u8]>::split_first) else {
            return self.routes.insert(edit.entry, edit.slots);
        };
        match self.place(*byte) {
            Ok(at) => {
                if let Some(child) = self.children.get_mut(at) {
                    Arc::make_mut(&mut child.node).insert(rest, edit);
                }
            }
            Err(at) => {
                let mut node = Node { edge: Text::from_slice(rest), ..Node::default() };
                node.routes.insert(edit.entry, edit.slots);
                let mut children = std::mem::take(&mut self.children).into_vec();
                children.reserve_exact(1);
                children.insert(at, Child { byte: *byte, node: Arc::new(node) });
                self.children = children.into();
            }
        }
    }

    /// Ends the edge after so many bytes, and puts what was here below the next one.
    fn split(&mut self, len: usize) {
        let Some((byte, rest)) = self.edge.get(len..).and_then(<[u8]>::split_first) else { return };
        let (byte, edge) = (*byte, Text::from_slice(rest));
        let below =
            Node { edge, routes: std::mem::take(&mut self.routes), children: std::mem::take(&mut self.children) };
        self.edge.truncate(len);
        self.children = Box::new([Child { byte, node: Arc::new(below) }]);
    }

    fn remove(&mut self, text: &[u8], edit: &Edit<'_>) {
        let Some(rest) = text.strip_prefix(&*self.edge) else { return };
        let Some((byte, rest)) = rest.split_first() else {
            self.routes.remove(&edit.entry, edit.slots);
            return self.join();
        };
        let Ok(at) = self.place(*byte) else { return };
        let Some(child) = self.children.get_mut(at) else { return };
        let node = Arc::make_mut(&mut child.node);
        node.remove(rest, edit);
        if node.routes.is_empty() && node.children.is_empty() {
            let mut children = std::mem::take(&mut self.children).into_vec();
            children.remove(at);
            self.children = children.into();
        }
        self.join();
    }

    /// Takes the place of an only child where there are no routes for the text itself.
    fn join(&mut self) {
        if !self.routes.is_empty() {
            return;
        }
        let Some([child]) = self.children.get(..).filter(|children| children.len() == 1) else { return };
        let (byte, below) = (child.byte, Node::clone(&child.node));
        self.edge.push(byte);
        self.edge.extend_from_slice(&below.edge);
        (self.routes, self.children) = (below.routes, below.children);
    }
}
