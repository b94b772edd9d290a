//! Statements that read.

use super::codec::Codec;
use super::connection::{Cell, Connection, Database, Row, damaged};
use super::rows;
use crate::chain::{Entry, Head};
use crate::fingerprint::{BaseDocument, StoredPrint};
use crate::{Change, Contents, Document, Generation, Key, Page, Query, StoreError, TagFilter, Unique};

pub(crate) async fn get(
    connection: &mut dyn Connection,
    codec: &Codec,
    key: &Key,
) -> Result<Option<Document>, StoreError> {
    let sql = format!("SELECT {} FROM documents d WHERE d.kind = $1 AND d.id = $2", rows::DOCUMENT);
    one(connection.query(sql, rows::cells(key)).await?, codec)
}

pub(crate) async fn find(
    connection: &mut dyn Connection,
    codec: &Codec,
    (kind, unique): (&str, &Unique),
) -> Result<Option<Document>, StoreError> {
    let sql = format!(
        "SELECT {} FROM document_uniques k JOIN documents d ON d.kind = k.kind AND d.id = k.id WHERE k.digest = $1",
        rows::DOCUMENT
    );
    one(connection.query(sql, vec![Cell::Bytes(codec.index().digest(kind, unique))]).await?, codec)
}

fn one(rows: Vec<Row>, codec: &Codec) -> Result<Option<Document>, StoreError> {
    rows.into_iter().next().map(|mut row| rows::document(&mut row, codec)).transpose()
}

pub(crate) async fn list(connection: &mut dyn Connection, codec: &Codec, query: &Query) -> Result<Page, StoreError> {
    if matches!(&query.tags, TagFilter::Any(tags) if tags.is_empty()) {
        return Ok(Page::default());
    }
    let size = query.page_size();
    let mut statement = Statement::default();
    let sql = statement.list(query, size + 1);
    let found = connection.query(sql, statement.cells).await?;
    let is_last = found.len() <= size;
    let page = found.into_iter().take(size).map(|mut row| rows::document(&mut row, codec));
    let documents = page.collect::<Result<Vec<_>, _>>()?;
    let next = documents.last().filter(|_| !is_last).map(|document| document.key.id.clone());
    Ok(Page { documents, next })
}

/// A statement in the making.
#[derive(Default)]
struct Statement {
    cells: Vec<Cell>,
}

impl Statement {
    fn place(&mut self, cell: Cell) -> String {
        self.cells.push(cell);
        format!("${}", self.cells.len())
    }

    fn text(&mut self, text: &str) -> String {
        self.place(Cell::text(text))
    }

    /// The most selective filter is the table that leads: its index has the order of the page.
    fn list(&mut self, query: &Query, limit: usize) -> String {
        let mut conditions = String::new();
        let mut tags: &[_] = match &query.tags {
            TagFilter::All(tags) => tags,
            TagFilter::None | TagFilter::Any(_) => &[],
        };
        let (from, leading) = if let Some((field, to)) = &query.reference {
            let (field, kind, id) = (self.text(field), self.text(&to.kind), self.text(&to.id));
            conditions += &format!(" AND r.field = {field} AND r.to_kind = {kind} AND r.to_id = {id}");
            ("document_references r JOIN documents d ON d.kind = r.kind AND d.id = r.id", "r")
        } else if let Some((first, rest)) = tags.split_first() {
            tags = rest;
            conditions += &format!(" AND l.tag = {}", self.text(first));
            ("document_tags l JOIN documents d ON d.kind = l.kind AND d.id = l.id", "l")
        } else {
            ("documents d", "d")
        };
        for tag in tags {
            conditions += &tagged(&format!("= {}", self.text(tag)));
        }
        if let TagFilter::Any(tags) = &query.tags {
            let places: Vec<String> = tags.iter().map(|tag| self.text(tag)).collect();
            conditions += &tagged(&format!("IN ({})", places.join(", ")));
        }
        if let Some(space) = &query.space {
            conditions += &format!(" AND d.space = {}", self.text(space));
        }
        if let Some(after) = &query.after {
            conditions += &format!(" AND {leading}.id > {}", self.text(after));
        }
        let kind = self.text(&query.kind);
        let limit = self.place(Cell::number(limit as u64));
        let columns = rows::DOCUMENT;
        format!(
            "SELECT {columns} FROM {from} WHERE {leading}.kind = {kind}{conditions} ORDER BY {leading}.id LIMIT {limit}"
        )
    }
}

fn tagged(is: &str) -> String {
    format!(" AND EXISTS (SELECT 1 FROM document_tags t WHERE t.kind = d.kind AND t.id = d.id AND t.tag {is})")
}

/// All documents and the revision that they are at. It is one statement, so one view.
pub(crate) async fn snapshot(
    connection: &mut dyn Connection,
    codec: &Codec,
) -> Result<(u64, Vec<Document>), StoreError> {
    let (mut revision, mut documents) = (None, Vec::new());
    for mut row in connection.query(all(), Vec::new()).await? {
        revision = Some(row.number()?);
        if !row.is_next_null() {
            documents.push(rows::document(&mut row, codec)?);
        }
    }
    Ok((revision.ok_or_else(|| damaged("the row of store_state is missing"))?, documents))
}

/// The same, with those apart that cannot be read.
pub(crate) async fn contents(connection: &mut dyn Connection, codec: &Codec) -> Result<Contents, StoreError> {
    let (mut revision, mut documents, mut unreadable) = (None, Vec::new(), Vec::new());
    for mut row in connection.query(all(), Vec::new()).await? {
        revision = Some(row.number()?);
        if !row.is_next_null() {
            match rows::readable(&mut row, codec)? {
                Ok(document) => documents.push(document),
                Err(damaged) => unreadable.push(damaged),
            }
        }
    }
    let revision = revision.ok_or_else(|| damaged("the row of store_state is missing"))?;
    Ok(Contents { revision, documents, unreadable })
}

fn all() -> String {
    format!(
        "SELECT s.revision, {} FROM store_state s LEFT JOIN documents d ON s.id = 1 ORDER BY d.kind, d.id",
        rows::DOCUMENT
    )
}

/// Entries after a revision, all of a revision or none of it.
pub(crate) async fn entries(connection: &mut dyn Connection, after: u64, max: usize) -> Result<Vec<Entry>, StoreError> {
    let columns = rows::ENTRY;
    let from = format!("SELECT {columns} FROM changes c LEFT JOIN generations g ON g.revision = c.revision");
    let limit = max.clamp(1, usize::MAX >> 1) + 1;
    let sql = format!("{from} WHERE c.revision > $1 ORDER BY c.revision, c.position LIMIT $2");
    let found = connection.query(sql, vec![Cell::number(after), Cell::number(limit as u64)]).await?;
    let is_all = found.len() < limit;
    let mut entries = found.into_iter().map(|mut row| rows::entry(&mut row)).collect::<Result<Vec<_>, _>>()?;
    let Some(cut) = entries.last().map(|entry| entry.revision).filter(|_| !is_all) else { return Ok(entries) };
    entries.retain(|entry| entry.revision < cut);
    if !entries.is_empty() {
        return Ok(entries);
    }
    let sql = format!("{from} WHERE c.revision = $1 ORDER BY c.position");
    let found = connection.query(sql, vec![Cell::number(cut)]).await?;
    found.into_iter().map(|mut row| rows::entry(&mut row)).collect()
}

pub(crate) async fn changes(
    connection: &mut dyn Connection,
    codec: &Codec,
    after: u64,
    max: usize,
) -> Result<Vec<Change>, StoreError> {
    let entries = entries(connection, after, max).await?;
    // Asked afterwards: what was removed in between is missing in the entries.
    let oldest = rows::head(connection).await?.oldest;
    if after < oldest {
        return Err(StoreError::pruned(after, oldest));
    }
    entries.into_iter().map(|entry| change(entry, codec)).collect()
}

/// An entry as readers see it.
fn change(entry: Entry, codec: &Codec) -> Result<Change, StoreError> {
    let Entry { revision, position, at_ms, author, key, space, old, new, cascaded, hash } = entry;
    let old = old.map(|bytes| codec.decode(&key, &bytes)).transpose()?;
    let new = new.map(|bytes| codec.decode(&key, &bytes)).transpose()?;
    Ok(Change { revision, position, at_ms, author, key, space, old, new, cascaded, hash })
}

/// The documents when the log begins.
pub(crate) async fn base(connection: &mut dyn Connection) -> Result<Vec<BaseDocument>, StoreError> {
    let sql = "SELECT kind, id, space, revision, digest FROM base_documents ORDER BY kind, id".to_owned();
    let document = |mut row: Row| {
        let (key, space, revision) = (rows::key(&mut row)?, row.text()?, row.number()?);
        Ok(BaseDocument { key, space, revision, digest: row.hash()? })
    };
    connection.query(sql, Vec::new()).await?.into_iter().map(document).collect()
}

/// The content of all documents and the revision that they are at, in one view.
pub(crate) async fn stored(
    connection: &mut dyn Connection,
    codec: &Codec,
) -> Result<(u64, Vec<StoredPrint>), StoreError> {
    let sql = "SELECT s.revision, d.kind, d.id, d.space, d.revision, d.value FROM store_state s LEFT JOIN documents d ON \
               s.id = 1 ORDER BY d.kind, d.id";
    let (mut at, mut documents) = (None, Vec::new());
    for mut row in connection.query(sql.to_owned(), Vec::new()).await? {
        at = Some(row.number()?);
        if !row.is_next_null() {
            let (key, space, revision, bytes) = (rows::key(&mut row)?, row.text()?, row.number()?, row.bytes()?);
            let print = codec.fingerprint(&key, &bytes);
            documents.push(StoredPrint { key, space, revision, print });
        }
    }
    Ok((at.ok_or_else(|| damaged("the row of store_state is missing"))?, documents))
}

pub(crate) async fn generations(
    connection: &mut dyn Connection,
    before: Option<u64>,
    max: usize,
) -> Result<Vec<Generation>, StoreError> {
    let sql =
        "SELECT revision, at_ms, author, changes FROM generations WHERE revision < $1 ORDER BY revision DESC LIMIT $2";
    let cells = vec![Cell::number(before.unwrap_or(u64::MAX)), Cell::number(max as u64)];
    let generation = |mut row: Row| {
        let (revision, at_ms) = (row.number()?, row.int()?);
        Ok(Generation { revision, at_ms, author: rows::parse_author(&row.bytes()?)?, changes: row.number()? })
    };
    connection.query(sql.to_owned(), cells).await?.into_iter().map(generation).collect()
}

/// Both ends of the log, and the number of documents.
pub(crate) async fn status(connection: &mut dyn Connection) -> Result<(Head, u64), StoreError> {
    let head = rows::head(connection).await?;
    let rows = connection.query("SELECT COUNT(*) FROM documents".to_owned(), Vec::new()).await?;
    Ok((head, rows.into_iter().next().ok_or_else(|| damaged("no count"))?.number()?))
}

/// The newest revision.
pub(crate) async fn current(database: &dyn Database) -> Result<u64, StoreError> {
    Ok(rows::head(&mut *database.reader().await?).await?.revision)
}
