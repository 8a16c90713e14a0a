//! Requests about objects of one kind.

use std::marker::PhantomData;

use kube::{
    Client, Error, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{ask, typed};

/// The objects of a kind, in one namespace or in all.
pub struct Api<K> {
    client: Client,
    path: Request,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()>> Api<K> {
    /// Those of every namespace, or of the cluster.
    #[must_use]
    pub fn all(client: Client) -> Self {
        Api::below(client, None)
    }

    /// Those of one namespace.
    #[must_use]
    pub fn namespaced(client: Client, namespace: &str) -> Self {
        Api::below(client, Some(namespace))
    }

    fn below(client: Client, namespace: Option<&str>) -> Self {
        Api {
            client,
            path: Request::new(K::url_path(&(), namespace)),
            kind: PhantomData,
        }
    }
}

impl<K: DeserializeOwned> Api<K> {
    /// The object of this name.
    ///
    /// # Errors
    /// As every request; also when there is no such object.
    pub async fn get(&self, name: &str) -> Result<K, Error> {
        let request = self.path.get(name, &kube::api::GetParams::default());
        typed(ask(&self.client, request).await?)
    }

    /// The object of this name, if there is one.
    ///
    /// # Errors
    /// As every request.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>, Error> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects that `params` asks for.
    ///
    /// # Errors
    /// As every request.
    pub async fn list(&self, params: &ListParams) -> Result<Vec<K>, Error> {
        let mut list = ask(&self.client, self.path.list(params)).await?;
        let Value::Array(items) = list["items"].take() else {
            return Ok(Vec::new());
        };
        items.into_iter().map(typed).collect()
    }
}

impl<K: Serialize> Api<K> {
    /// Stores a new object, and answers with what was stored.
    ///
    /// # Errors
    /// As every request.
    pub async fn create(&self, params: &PostParams, object: &K) -> Result<Value, Error> {
        let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        ask(&self.client, self.path.create(params, body)).await
    }

    /// Stores an object in place of the one that it was made from, and answers with what was stored.
    ///
    /// # Errors
    /// As every request; also when somebody else changed the object meanwhile.
    pub async fn replace(
        &self,
        name: &str,
        params: &PostParams,
        object: &K,
    ) -> Result<Value, Error> {
        let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        ask(&self.client, self.path.replace(name, params, body)).await
    }
}

impl<K> Api<K> {
    /// Changes an object, and answers with what is stored then.
    ///
    /// # Errors
    /// As every request.
    pub async fn patch(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<Value, Error> {
        ask(&self.client, self.path.patch(name, params, patch)).await
    }

    /// Changes the status of an object, and answers with what is stored then.
    ///
    /// # Errors
    /// As every request.
    pub async fn patch_status(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<Value, Error> {
        let request = self.path.patch_subresource("status", name, params, patch);
        ask(&self.client, request).await
    }

    /// Deletes an object, and answers with what is left of it or with a status.
    ///
    /// # Errors
    /// As every request.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<Value, Error> {
        ask(&self.client, self.path.delete(name, params)).await
    }
}
